//! Bounds for streams of answers: their number, and how long each may last.
//!
//! A call ends at its deadline, but a stream goes on after its first answer. Reflection is for
//! people with grpcurl. A watch of the health is for a client's channels, one each.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tonic::{Status, body::Body};
use tower::{Service, service_fn};

use super::{Request, Response};
use crate::{auth::Error, grpc::server::ConnectInfo};

const REFLECTION_STREAMS: usize = 16;
const WATCH_STREAMS: usize = 256;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Shared by all connections.
pub struct ServerStreams {
    reflection: Kind,
    watch: Kind,
}

struct Kind {
    permits: Arc<Semaphore>,
    longest: Duration,
}

impl ServerStreams {
    pub fn new(reflection: Duration, watch: Duration) -> Self {
        let kind = |count, longest| Kind {
            permits: Arc::new(Semaphore::new(count)),
            longest,
        };
        Self {
            reflection: kind(REFLECTION_STREAMS, reflection),
            watch: kind(WATCH_STREAMS, watch),
        }
    }

    fn kind(&self, path: &str) -> Option<&Kind> {
        if path == "/grpc.health.v1.Health/Watch" {
            Some(&self.watch)
        } else {
            let reflection = path.starts_with("/grpc.reflection.");
            reflection.then_some(&self.reflection)
        }
    }
}

/// `service_fn` does not ask `inner` whether it is ready: tonic's routes always are.
pub fn bounded_streams<S>(
    inner: S,
    streams: Arc<ServerStreams>,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send,
{
    service_fn(move |request: Request| {
        let (mut inner, streams) = (inner.clone(), Arc::clone(&streams));
        async move {
            let Some(kind) = streams.kind(request.uri().path()) else {
                return inner.call(request).await;
            };
            let Ok(permit) = Arc::clone(&kind.permits).try_acquire_owned() else {
                let retry_after = RETRY_AFTER;
                return Ok(Status::from(Error::Overloaded { retry_after }).into_http());
            };
            let end = Instant::now() + kind.longest;
            let open = OpenStream::begin(&request, permit, end);
            let request = request.map(|body| Body::new(Ending::new(body, end, None)));
            let response = inner.call(request).await?;
            Ok(response.map(|body| Body::new(Ending::new(body, end, Some(open)))))
        }
    })
}

/// One of the streams that there may be, until it is dropped or its time is over.
struct OpenStream {
    _open: oneshot::Sender<Infallible>,
}

impl OpenStream {
    /// A task of its own releases the permit: hyper does not poll the body of an answer while
    /// the peer grants no window.
    fn begin(request: &Request, permit: OwnedSemaphorePermit, end: Instant) -> Self {
        let memory = Arc::clone(&ConnectInfo::of(request.extensions()).memory);
        memory.server_stream_begins();
        let (open, closed) = oneshot::channel();
        tokio::spawn(async move {
            // An error: it ended before its time.
            timeout_at(end, closed).await.ok();
            memory.server_stream_ends();
            drop(permit);
        });
        Self { _open: open }
    }
}

/// A body that ends at a time: a request by an error, an answer by its status.
struct Ending {
    body: Body,
    end: Pin<Box<Sleep>>,
    ended: bool,
    /// Only of an answer.
    open: Option<OpenStream>,
}

impl Ending {
    fn new(body: Body, end: Instant, open: Option<OpenStream>) -> Self {
        Self {
            body,
            end: Box::pin(sleep_until(end)),
            ended: false,
            open,
        }
    }

    fn end(&mut self) -> Result<Frame<Bytes>, Status> {
        self.ended = true;
        let status = Status::from(Error::DeadlineExceeded);
        if self.open.is_none() {
            return Err(status);
        }
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(self.end()));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
