//! A client on one connection, without what tonic's `Channel` adds: it never reconnects, and only
//! the server watches the deadline of a call.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use auth_service::proto::auth_service_client::AuthServiceClient;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

#[derive(Clone)]
pub struct BareConnection(http2::SendRequest<Body>);

impl BareConnection {
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    pub fn client(&self) -> AuthServiceClient<Self> {
        AuthServiceClient::with_origin(self.clone(), http::Uri::from_static("http://localhost"))
    }
}

impl Service<http::Request<Body>> for BareConnection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
