//! Marks the connection of a call as in use, so that the connection limit does not close it.
//!
//! It is in use while the service works on the call: from the end of the request to the begin
//! of the answer. An unfinished request and an unread answer last as long as a client wants,
//! and would keep every other client out.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};
use tower::{Service, service_fn};

use super::{Request, Response};
use crate::grpc::server::{ConnectionInfo, RunningCall};

/// `service_fn` does not ask `inner` whether it is ready: tonic's routes always are.
pub fn mark_running<S>(
    mut inner: S,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone,
{
    service_fn(move |request: Request| {
        let running = Arc::default();
        let start = Start {
            connection: ConnectionInfo::of(request.extensions()).clone(),
            running: Arc::clone(&running),
        };
        let start = Some(start);
        let response = inner.call(request.map(|body| Body::new(RequestBody { body, start })));
        async move {
            let response = response.await;
            drop(running);
            response
        }
    })
}

/// Begins the call when the request is complete. The service's future holds `running` too,
/// so the call ends with that future.
struct Start {
    connection: ConnectionInfo,
    running: Arc<OnceLock<RunningCall>>,
}

struct RequestBody {
    body: Body,
    start: Option<Start>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if (frame.is_none() || self.body.is_end_stream())
            && let Some(start) = self.start.take()
        {
            start.running.get_or_init(|| start.connection.begin_call());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
