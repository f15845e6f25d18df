//! HTTP/2 with any headers and any bytes, and the complete answer.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Response};
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::Status;

pub struct RawConnection {
    pub requests: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// All that a client can see of an answer.
pub struct Answer {
    pub http_status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The gRPC status, from the trailers or the headers.
    pub fn status(&self) -> Option<Status> {
        let trailers = self.trailers.as_ref();
        trailers
            .and_then(Status::from_header_map)
            .or_else(|| Status::from_header_map(&self.headers))
    }

    /// All but the date, as text to compare.
    pub fn fingerprint(&self) -> String {
        let mut headers = self.headers.clone();
        headers.remove("date");
        let Self {
            http_status,
            body,
            trailers,
            ..
        } = self;
        format!("{http_status} {headers:?} {body:?} {trailers:?}")
    }
}

impl RawConnection {
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let driver = tokio::spawn(connection);
        Self { requests, driver }
    }

    /// A gRPC call with this body, which must be [framed] already, and further headers.
    pub async fn call(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, h2::Error> {
        self.send(grpc(path, headers), body.into()).await
    }

    /// Like `call`, but reads only the beginning of the answer, which may have no end.
    pub async fn call_without_end(
        &self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(), h2::Error> {
        let answer = self.begin(grpc(path, &[]), body.into()).await?;
        answer.into_body().data().await.transpose().map(drop)
    }

    /// A call whose request goes on after this body. Returns what goes on as soon as a part of the
    /// answer is here.
    pub async fn call_that_goes_on(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<(SendStream<Bytes>, RecvStream), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut request) = requests.send_request(grpc(path, headers), false)?;
        request.send_data(body.into(), false)?;
        let mut answer = response.await?.into_body();
        answer.data().await.transpose()?;
        Ok((request, answer))
    }

    pub async fn send(&self, request: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
        let (head, mut data) = self.begin(request, body).await?.into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = data.data().await {
            let chunk = chunk?;
            data.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            http_status: head.status.as_u16(),
            headers: head.headers,
            body,
            trailers: data.trailers().await?,
        })
    }

    /// Returns as soon as the headers of the answer are here.
    async fn begin(
        &self,
        request: Request<()>,
        body: Bytes,
    ) -> Result<Response<RecvStream>, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let empty = body.is_empty();
        let (response, mut stream) = requests.send_request(request, empty)?;
        if !empty {
            // The server may have answered and closed the stream by now.
            stream.send_data(body, true).ok();
        }
        response.await
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn grpc(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}"));
    let defaults = [("te", "trailers"), ("content-type", "application/grpc")];
    let given = |name| headers.iter().any(|(given, _)| *given == name);
    for (name, value) in defaults.iter().filter(|(name, _)| !given(*name)) {
        request = request.header(*name, *value);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a valid request")
}

/// A message with gRPC's prefix: not compressed, and its length.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0], &length[..], message].concat()
}
