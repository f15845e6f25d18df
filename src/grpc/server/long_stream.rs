//! A stream that takes requests for longer than a call may last.

use std::sync::Arc;

use http::Extensions;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::task_tracker::TaskTrackerToken,
};

use super::{
    ConnectInfo, PeerMemory, RunningCall,
    limit::Uncounted,
    memory::{LONG_STREAM_BYTES, STREAM_BYTES},
};
use crate::auth::Error;

/// A stream whose request is small, with the fields of its headers.
const UNCOUNTED_BYTES: usize = 2 * STREAM_BYTES;

/// Until it is dropped, its connection is in use, and goes on after the GOAWAY grace period. The
/// memory that it takes does not count as stalled.
pub struct LongStream {
    memory: Arc<PeerMemory>,
    stop: CancellationToken,
    _running: RunningCall,
    uncounted: Option<Uncounted>,
    _open: TaskTrackerToken,
}

impl LongStream {
    /// Fails on a connection that is being closed.
    pub fn begin(extensions: &Extensions) -> Result<Self, Error> {
        let ConnectInfo { connection, memory } = ConnectInfo::of(extensions);
        let open = connection.keep_open()?;
        memory.server_stream_begins(LONG_STREAM_BYTES);
        Ok(Self {
            memory: Arc::clone(memory),
            stop: connection.stop(),
            _running: connection.begin_call(),
            uncounted: None,
            _open: open,
        })
    }

    /// The connection counts neither against the connection limit nor, with this stream, against
    /// the memory of all connections. The caller must bound the number of these streams.
    pub fn begin_uncounted(extensions: &Extensions) -> Result<Self, Error> {
        let mut stream = Self::begin(extensions)?;
        stream.memory.uncounted_stream_begins(UNCOUNTED_BYTES);
        stream.uncounted = Some(ConnectInfo::of(extensions).connection.leave_limit());
        Ok(stream)
    }

    /// For a client that does not read the end of the stream. hyper cannot reset the stream then.
    pub fn close_connection(&self) {
        self.memory.close();
    }

    /// Completes when the service stops.
    pub fn must_end(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }
}

impl Drop for LongStream {
    fn drop(&mut self) {
        self.memory.server_stream_ends(LONG_STREAM_BYTES);
        if self.uncounted.is_some() {
            self.memory.uncounted_stream_ends(UNCOUNTED_BYTES);
        }
    }
}
