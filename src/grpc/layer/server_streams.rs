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
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tonic::{Status, body::Body};
use tower::{Service, service_fn};

use super::{Request, Response};
use crate::{
    auth::Error,
    grpc::server::{ConnectInfo, PeerMemory},
};

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
            let place = Place::new(&request, permit);
            let end = Instant::now() + kind.longest;
            let request = request.map(|body| Body::new(Ending::new(body, end, None)));
            let response = inner.call(request).await?;
            Ok(response.map(|body| Body::new(Ending::new(body, end, Some(place)))))
        }
    })
}

/// One of the streams that there may be. It may wait for its peer.
struct Place {
    memory: Arc<PeerMemory>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(request: &Request, permit: OwnedSemaphorePermit) -> Self {
        let memory = Arc::clone(&ConnectInfo::of(request.extensions()).memory);
        memory.server_stream_begins();
        Self {
            memory,
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.memory.server_stream_ends();
    }
}

/// A body that ends at a time: a request by an error, an answer by its status.
struct Ending {
    body: Body,
    end: Pin<Box<Sleep>>,
    ended: bool,
    /// Only of an answer.
    place: Option<Place>,
}

impl Ending {
    fn new(body: Body, end: Instant, place: Option<Place>) -> Self {
        Self {
            body,
            end: Box::pin(sleep_until(end)),
            ended: false,
            place,
        }
    }

    fn end(&mut self) -> Result<Frame<Bytes>, Status> {
        self.ended = true;
        let status = Status::from(Error::DeadlineExceeded);
        if self.place.is_none() {
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
