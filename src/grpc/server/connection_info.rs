//! The connection of a call, in the extensions of its request.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::Extensions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    limit::{Calls, RunningCall, Uncounted},
    memory::ConnectInfo,
    transport::Peer,
};
use crate::auth::Error;

/// The calls of one connection that may hash a password at the same time, or wait for it. More
/// than the eight of each core of a large machine, and less than the streams of a connection:
/// the other streams are for calls that never wait for a hash.
const MAX_PASSWORD_CALLS: usize = 512;

/// About how long the hashes of a few waiting calls take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct ConnectionInfo(Arc<Inner>);

struct Inner {
    peer: Peer,
    is_private: bool,
    calls: Calls,
    password_calls: Arc<Semaphore>,
    /// Closed with the connection.
    long_streams: TaskTracker,
    /// Cancelled when the service stops.
    stop: CancellationToken,
}

impl ConnectionInfo {
    /// Of a request that the server received.
    pub fn of(extensions: &Extensions) -> &Self {
        &ConnectInfo::of(extensions).connection
    }

    pub(super) fn new(peer: Peer, is_private: bool, calls: Calls, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            peer,
            is_private,
            calls,
            password_calls: Arc::new(Semaphore::new(MAX_PASSWORD_CALLS)),
            long_streams: TaskTracker::new(),
            stop,
        }))
    }

    /// The names in the client's certificate, which was verified; empty without one.
    pub fn client_names(&self) -> &[String] {
        self.0.peer.names()
    }

    /// Whether nobody on the network can read it: encrypted, or on loopback.
    pub fn is_private(&self) -> bool {
        self.0.is_private
    }

    /// The connection is in use until the returned value is dropped.
    pub fn begin_call(&self) -> RunningCall {
        self.0.calls.begin()
    }

    /// The connection does not count against the connection limit until the returned value is
    /// dropped.
    pub(super) fn leave_limit(&self) -> Uncounted {
        self.0.calls.leave_limit()
    }

    /// The connection is not closed at the end of its lifetime until the token is dropped. Fails
    /// after the begin of that end.
    pub(super) fn keep_open(&self) -> Result<TaskTrackerToken, Error> {
        let open = self.0.long_streams.token();
        if self.0.long_streams.is_closed() {
            return Err(Error::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        Ok(open)
    }

    /// Waits for the end of all streams that keep the connection open, if there are any. No other
    /// begins meanwhile.
    pub(super) async fn long_streams_end(&self) -> bool {
        let streams = &self.0.long_streams;
        streams.close();
        let has_streams = !streams.is_empty();
        streams.wait().await;
        has_streams
    }

    pub(super) fn stop(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Admits a call that hashes a password, unless too many of this connection wait. Without
    /// this limit they could take all streams, and a Refresh on the connection would wait too.
    pub fn admit_password_call(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = Arc::clone(&self.0.password_calls).try_acquire_owned();
        permit.map_err(|_| Error::Overloaded {
            retry_after: RETRY_AFTER,
        })
    }
}

/// `local` is the server's address of a connection. The listener's address may be 0.0.0.0,
/// which loopback clients reach too.
pub(super) fn is_loopback(local: io::Result<SocketAddr>) -> bool {
    local.is_ok_and(|local| local.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_many_addresses() {
        let is_loopback = |local: &str| is_loopback(local.parse().map_err(io::Error::other));
        for loopback in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(loopback), "{loopback}");
        }
        for other in [
            "192.0.2.1:1",
            "0.0.0.0:1",
            "[2001:db8::1]:1",
            "[::ffff:192.0.2.1]:1",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
        assert!(!is_loopback("an address that cannot be read"));
    }
}
