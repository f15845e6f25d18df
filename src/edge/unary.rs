//! Unary gRPC calls with little work for each: a check takes a few microseconds, so what a general
//! gRPC server does around a call would cost more than the check.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, Version,
    header::{CONTENT_TYPE, TE},
    request::Parts,
};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The flag that says whether the message is compressed, and the length.
const PREFIX_BYTES: usize = 5;
/// Envoy sends all headers of a request, of at most 60 KiB by default, and the path three times.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// For all unfinished messages together.
const MAX_UNFINISHED_BYTES: usize = 32 * 1024 * 1024;
/// A gateway beside the edge sends a message at once.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts the bytes of unfinished messages in the whole process.
#[derive(Default)]
pub(super) struct Unfinished(AtomicUsize);

/// Whether a request is a gRPC call. Forward-auth by HTTP/2 may have any path and the client's own
/// `Content-Type`. A gateway must then not pass on the client's `TE` (RFC 9110, section 7.6.1).
pub(super) fn is_call(request: &Parts) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|it| it.as_bytes().starts_with(GRPC.as_bytes()));
    let has_trailers = request.headers.get(TE).is_some_and(|it| it == "trailers");
    request.version == Version::HTTP_2 && request.method == Method::POST && is_grpc && has_trailers
}

/// Reads the message of a call and answers it.
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
    let request = message.and_then(|message| decode(message));
    let (mut response, code) = match request.and_then(act) {
        Ok(answer) => (Response::new(Body::message(&answer)), None),
        Err(code) => (Response::new(Body::empty()), Some(code)),
    };
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    if let Some(code) = code {
        let code = HeaderValue::from(i32::from(code));
        response.headers_mut().insert(GRPC_STATUS, code);
    }
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
        let before = self.unfinished.0.fetch_add(data.len(), Ordering::Relaxed);
        self.counted += data.len();
        let fits = self.counted <= MAX_MESSAGE_BYTES + PREFIX_BYTES
            && before + data.len() <= MAX_UNFINISHED_BYTES;
        if !fits {
            return Err(Code::ResourceExhausted);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        self.unfinished.0.fetch_sub(self.counted, Ordering::Relaxed);
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
