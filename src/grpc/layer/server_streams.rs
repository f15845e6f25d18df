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
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, body::Body};
use tower::{Service, service_fn};

use super::{Request, Response, open_streams::OpenStreams};
use crate::{
    auth::Error,
    grpc::server::{ConnectInfo, STREAM_BYTES},
};

const REFLECTION_STREAMS: usize = 16;
const WATCH_STREAMS: usize = 256;
const OVERLOADED: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

/// Shared by all connections.
pub struct ServerStreams {
    reflection: Kind,
    watch: Kind,
}

#[derive(Clone)]
struct Kind {
    open: Arc<OpenStreams>,
    longest: Duration,
}

impl ServerStreams {
    pub fn new(reflection: Duration, watch: Duration) -> Self {
        let kind = |limit, longest| Kind {
            open: Arc::new(OpenStreams::new(limit)),
            longest,
        };
        Self {
            reflection: kind(REFLECTION_STREAMS, reflection),
            watch: kind(WATCH_STREAMS, watch),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        if path == "/grpc.health.v1.Health/Watch" {
            Some(self.watch.clone())
        } else {
            let reflection = path.starts_with("/grpc.reflection.");
            reflection.then(|| self.reflection.clone())
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
            let Some(open) = OpenStream::begin(&request, kind) else {
                return Ok(Status::from(OVERLOADED).into_http());
            };
            let end = open.end();
            let request = request.map(|body| Body::new(Ending::new(body, end, None)));
            let response = inner.call(request).await?;
            let end = open.end();
            Ok(response.map(|body| Body::new(Ending::new(body, end, Some(open)))))
        }
    })
}

/// One of the streams that there may be, until it is dropped or must end.
struct OpenStream {
    deadline: Instant,
    must_end: CancellationToken,
    _open: DropGuard,
}

impl OpenStream {
    /// A task of its own ends the count: hyper does not poll the body of an answer while the
    /// peer grants no window.
    fn begin(request: &Request, kind: Kind) -> Option<Self> {
        let memory = Arc::clone(&ConnectInfo::of(request.extensions()).memory);
        let (id, must_end) = kind.open.begin(memory.id)?;
        let deadline = Instant::now() + kind.longest;
        memory.server_stream_begins(STREAM_BYTES);
        let closed = CancellationToken::new();
        let open = Self {
            deadline,
            must_end,
            _open: closed.clone().drop_guard(),
        };
        let end = open.end();
        tokio::spawn(async move {
            closed.run_until_cancelled(end).await;
            memory.server_stream_ends(STREAM_BYTES);
            kind.open.end(id);
        });
        Some(open)
    }

    /// Completes when the stream must end, with the reason.
    fn end(&self) -> impl Future<Output = Error> + Send + use<> {
        let (deadline, must_end) = (self.deadline, self.must_end.clone());
        async move {
            match timeout_at(deadline, must_end.cancelled()).await {
                Ok(()) => OVERLOADED,
                Err(_) => Error::DeadlineExceeded,
            }
        }
    }
}

/// A body that ends at a time: a request by an error, an answer by its status.
struct Ending {
    body: Body,
    end: Pin<Box<dyn Future<Output = Error> + Send>>,
    ended: bool,
    /// Only of an answer.
    open: Option<OpenStream>,
}

impl Ending {
    fn new(
        body: Body,
        end: impl Future<Output = Error> + Send + 'static,
        open: Option<OpenStream>,
    ) -> Self {
        Self {
            body,
            end: Box::pin(end),
            ended: false,
            open,
        }
    }

    fn end(&mut self, error: Error) -> Result<Frame<Bytes>, Status> {
        self.ended = true;
        let status = Status::from(error);
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
        if let Poll::Ready(error) = self.end.as_mut().poll(context) {
            return Poll::Ready(Some(self.end(error)));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
