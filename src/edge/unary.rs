//! Unary gRPC calls with little work for each: a check takes a few microseconds, so what a general
//! gRPC server does around a call would cost more than the check.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONTENT_TYPE, TE},
    request::Parts,
};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use prost::Message;
use tokio::time::timeout;
use tonic::Code;
use tracing::warn;

use crate::telemetry::LIMITED;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The flag that says whether the message is compressed, and the length.
const PREFIX_BYTES: usize = 5;
/// Envoy sends all headers of a request, of at most 60 KiB by default, and the path three times.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// For all unfinished messages together.
const MAX_UNFINISHED_BYTES: usize = 32 * 1024 * 1024;
/// For those of one connection, so that no gateway takes the share of the others.
const MAX_UNFINISHED_BYTES_PER_CONNECTION: usize = 2 * 1024 * 1024;
/// A gateway beside the edge sends a message at once.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts the bytes of unfinished messages, of a connection and in the whole process.
pub(super) struct Unfinished {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Unfinished {
    pub(super) fn of_connection(all: &Arc<AtomicUsize>) -> Self {
        Self {
            own: AtomicUsize::new(0),
            all: Arc::clone(all),
        }
    }

    /// Counts more bytes. `false` if they are too many.
    fn add(&self, bytes: usize) -> bool {
        let [own, all] = [&self.own, &self.all]
            .map(|counter| counter.fetch_add(bytes, Ordering::Relaxed) + bytes);
        own <= MAX_UNFINISHED_BYTES_PER_CONNECTION && all <= MAX_UNFINISHED_BYTES
    }

    fn subtract(&self, bytes: usize) {
        for counter in [&self.own, &self.all] {
            counter.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Whether a request is a gRPC call. Forward-auth by HTTP/2 may have any path and the client's own
/// `Content-Type`. A gateway must then not pass on the client's `TE` (RFC 9110, section 7.6.1).
pub(super) fn is_call(request: &Parts) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|it| it.as_bytes().starts_with(GRPC.as_bytes()));
    let has_trailers = request.headers.get(TE).is_some_and(|it| it == "trailers");
    request.version == Version::HTTP_2 && request.method == Method::POST && is_grpc && has_trailers
}

/// Reads the message of a call and answers it.
///
/// A call without a complete message gets the HTTP status 400. With 200, which is usual for errors
/// of gRPC, a gateway would admit a forward-auth request that looks like a call.
pub(super) async fn answer<Q, A>(
    body: Incoming,
    unfinished: &Unfinished,
    act: impl FnOnce(Q) -> Result<A, Code>,
) -> Response<Body>
where
    Q: Message + Default,
    A: Message,
{
    let read = timeout(MESSAGE_TIMEOUT, read(body, unfinished)).await;
    let message = read.unwrap_or(Err(Code::DeadlineExceeded));
    let request = match message.and_then(decode) {
        Ok(request) => request,
        Err(code) => {
            let reason = code.description();
            warn!(name: LIMITED, reason, "a call has no complete message");
            let mut response = failed(code);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        }
    };
    match act(request) {
        Ok(answer) => grpc(Body::message(&answer)),
        Err(code) => failed(code),
    }
}

fn failed(code: Code) -> Response<Body> {
    let mut response = grpc(Body::empty());
    let code = HeaderValue::from(i32::from(code));
    response.headers_mut().insert(GRPC_STATUS, code);
    response
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

async fn read(mut body: Incoming, unfinished: &Unfinished) -> Result<Bytes, Code> {
    let mut message = Collected::new(unfinished);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Code::Cancelled)?;
        if let Ok(data) = frame.into_data() {
            message.add(&data)?;
        }
    }
    Ok(std::mem::take(&mut message.bytes).freeze())
}

fn decode<Q: Message + Default>(mut framed: Bytes) -> Result<Q, Code> {
    let (Ok(flag), Ok(length)) = (framed.try_get_u8(), framed.try_get_u32()) else {
        return Err(Code::InvalidArgument);
    };
    if flag != 0 {
        // It is compressed.
        return Err(Code::Unimplemented);
    }
    if u64::from(length) != framed.len() as u64 {
        return Err(Code::InvalidArgument);
    }
    Q::decode(framed).map_err(|_| Code::InvalidArgument)
}

/// The bytes of one message, counted while it is unfinished.
struct Collected<'a> {
    bytes: BytesMut,
    counted: usize,
    unfinished: &'a Unfinished,
}

impl<'a> Collected<'a> {
    fn new(unfinished: &'a Unfinished) -> Self {
        Self {
            bytes: BytesMut::new(),
            counted: 0,
            unfinished,
        }
    }

    fn add(&mut self, data: &[u8]) -> Result<(), Code> {
        self.counted += data.len();
        let has_room = self.unfinished.add(data.len());
        if !has_room || self.counted > MAX_MESSAGE_BYTES + PREFIX_BYTES {
            return Err(Code::ResourceExhausted);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        self.unfinished.subtract(self.counted);
    }
}

/// Nothing, or the one message of a successful call and its status.
pub(super) struct Body {
    message: Option<Bytes>,
    has_status: bool,
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self {
            message: None,
            has_status: false,
        }
    }

    fn message(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(length).expect("answers are small"));
        message.encode(&mut framed).expect("there is room for it");
        Self {
            message: Some(framed.freeze()),
            has_status: true,
        }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(message) = self.message.take() {
            return Some(Frame::data(message));
        }
        std::mem::take(&mut self.has_status).then(|| {
            let mut status = HeaderMap::with_capacity(1);
            status.insert(GRPC_STATUS, HeaderValue::from_static("0"));
            Frame::trailers(status)
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.has_status
    }

    fn size_hint(&self) -> SizeHint {
        match self.message {
            None => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}
