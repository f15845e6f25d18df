//! Large messages share a fixed room.
//!
//! A client can send all but the end of a message on every stream of every connection, and
//! we keep what came until the deadline. Ours are far below one kilobyte; what goes beyond
//! a few counts against one bound for the whole process. When it is used up, large messages
//! are refused as OVERLOADED, and all others are served as ever.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};

use super::MAX_MESSAGE_BYTES;
use crate::auth::Error;

const SMALL_BYTES: usize = 4 * 1024;
const ROOM_BYTES: usize = 32 * 1024 * 1024;

/// Unfinished messages last no longer than a call, and most of them much shorter.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room, shared by all connections.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES)))
    }

    /// The request, whose body takes its part of the room.
    pub(super) fn meter(&self, request: http::Request<Body>) -> http::Request<Body> {
        request.map(|body| {
            Body::new(Metered {
                body,
                room: Arc::clone(&self.0),
                seen: 0,
                places: None,
            })
        })
    }
}

struct Metered {
    body: Body,
    room: Arc<Semaphore>,
    seen: usize,
    /// One for each byte that counts; free again when the body was read or given up.
    places: Option<OwnedSemaphorePermit>,
}

impl Metered {
    /// Takes room for what came. Of a stream's messages only one is kept at a time.
    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        let counted = |seen: usize| seen.saturating_sub(SMALL_BYTES).min(MAX_MESSAGE_BYTES);
        let before = counted(self.seen);
        self.seen = self.seen.saturating_add(bytes);
        let more = u32::try_from(counted(self.seen) - before).expect("at most a message");
        if more == 0 {
            return Ok(());
        }
        let places = Arc::clone(&self.room).try_acquire_many_owned(more);
        let places = places.map_err(|_| Error::Overloaded {
            retry_after: RETRY_AFTER,
        })?;
        match &mut self.places {
            Some(held) => held.merge(places),
            None => self.places = Some(places),
        }
        Ok(())
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(full) = self.take(data.len())
        {
            return Poll::Ready(Some(Err(full)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
