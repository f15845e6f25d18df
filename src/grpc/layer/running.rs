//! Marks the connection of a call as in use, from its headers until its response is sent, so
//! that the connection limit does not close it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
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
        let running = ConnectionInfo::of(request.extensions()).begin_call();
        let response = inner.call(request);
        async move {
            let response = response.await?;
            Ok(response.map(|body| {
                Body::new(RunningBody {
                    body,
                    _running: running,
                })
            }))
        }
    })
}

struct RunningBody {
    body: Body,
    _running: RunningCall,
}

impl HttpBody for RunningBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
