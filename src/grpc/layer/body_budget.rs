//! The request-body budget: one bound for the memory that unfinished large requests take.
//!
//! A client can send all but the end of a message on every stream of every connection, and
//! the server keeps those bytes until the deadline. Our messages are far below one kilobyte.
//! The bytes of a request beyond `FREE_BYTES` count against one budget for the whole process.
//! When it is used up, large requests get OVERLOADED; small ones are served as usual.

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

use crate::{auth::Error, grpc::MAX_MESSAGE_BYTES};

const FREE_BYTES: usize = 4 * 1024;
const BUDGET_BYTES: usize = 8 * 1024 * 1024;

/// An unfinished request lasts no longer than a call, and most end much sooner.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Shared by all connections.
#[derive(Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET_BYTES)))
    }

    pub fn meter(&self, request: http::Request<Body>) -> http::Request<Body> {
        request.map(|body| {
            Body::new(MeteredBody {
                body,
                budget: Arc::clone(&self.0),
                received: 0,
                permits: None,
            })
        })
    }
}

struct MeteredBody {
    body: Body,
    budget: Arc<Semaphore>,
    received: usize,
    /// One for each byte that counts. They return to the budget when the body is dropped.
    permits: Option<OwnedSemaphorePermit>,
}

impl MeteredBody {
    /// Counts at most one message of a stream, because the server holds one at a time.
    fn count(&mut self, bytes: usize) -> Result<(), Status> {
        let counted = |received: usize| received.saturating_sub(FREE_BYTES).min(MAX_MESSAGE_BYTES);
        let before = counted(self.received);
        self.received = self.received.saturating_add(bytes);
        let more = u32::try_from(counted(self.received) - before).expect("at most a message");
        if more == 0 {
            return Ok(());
        }
        let permits = Arc::clone(&self.budget).try_acquire_many_owned(more);
        let permits = permits.map_err(|_| Error::Overloaded {
            retry_after: RETRY_AFTER,
        })?;
        match &mut self.permits {
            Some(held) => held.merge(permits),
            None => self.permits = Some(permits),
        }
        Ok(())
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(overloaded) = self.count(data.len())
        {
            return Poll::Ready(Some(Err(overloaded)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
