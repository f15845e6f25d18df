//! Takes answers from their handlers only as fast as the peer reads them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};
use tower::{Service, service_fn};

use super::{Request, Response};
use crate::grpc::server::{ConnectInfo, PeerMemory};

/// `service_fn` does not ask `inner` whether it is ready: tonic's routes always are.
pub fn metered_answers<S>(
    mut inner: S,
) -> impl Service<Request, Response = Response, Error = S::Error, Future: Send> + Clone
where
    S: Service<Request, Response = Response, Future: Send> + Clone,
    S::Error: Send,
{
    service_fn(move |request: Request| {
        let memory = Arc::clone(&ConnectInfo::of(request.extensions()).memory);
        let response = inner.call(request);
        async move {
            let metered = |body| Answer {
                body,
                memory,
                frame: None,
            };
            Ok(response.await?.map(|body| Body::new(metered(body))))
        }
    })
}

struct Answer {
    body: Body,
    memory: Arc<PeerMemory>,
    /// Waits until the peer has read what went before.
    frame: Option<Frame<Bytes>>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.frame.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.frame = Some(frame),
                end => return Poll::Ready(end),
            }
        }
        let data = self.frame.as_ref().and_then(Frame::data_ref);
        if let Some(bytes) = data.filter(|bytes| !bytes.is_empty()) {
            let counted = ready!(self.memory.poll_answer(context, bytes));
            self.frame = Some(Frame::data(counted));
        }
        Poll::Ready(self.frame.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.body.is_end_stream()
    }
}
