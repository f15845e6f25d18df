//! The byte stream of a connection: plain text or TLS.
//!
//! The first read or write does the TLS handshake. It therefore runs in the connection's own
//! task, delays no other connection, and counts towards the preface time-out.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use rustls::{ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tracing::warn;

use crate::{
    grpc::Metrics,
    telemetry::LIMITED,
    tls::{certificate, server::ALPN},
};

/// The client's identity by TLS, in the extensions of each request of the connection.
#[derive(Clone, Default)]
pub struct Peer(Arc<OnceLock<Vec<String>>>);

impl Peer {
    /// The names in the client's certificate, which was verified; empty without one.
    pub fn names(&self) -> &[String] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// The first certificate is the client's own. The handshake proved that the client holds
    /// its key.
    fn set(&self, tls: &ServerConnection) -> io::Result<()> {
        if let Some([client, ..]) = tls.peer_certificates() {
            let client = certificate::parse(client).map_err(io::Error::other)?;
            let _ = self.0.set(client.names);
        }
        Ok(())
    }
}

pub(super) struct Transport {
    state: State,
    /// Set by the handshake, so before the first request.
    pub(super) peer: Peer,
}

type Secure = TlsStream<TcpStream>;

enum State {
    Plain(TcpStream),
    Handshake(Box<Handshake>),
    Secure(Box<Secure>),
    Failed,
}

impl Transport {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self {
            state: State::Plain(stream),
            peer: Peer::default(),
        }
    }

    pub(super) fn secure(
        stream: TcpStream,
        client: SocketAddr,
        config: Arc<ServerConfig>,
        metrics: Metrics,
    ) -> Self {
        let handshake = Handshake {
            accept: TlsAcceptor::from(config).accept(stream),
            client,
            metrics,
        };
        Self {
            state: State::Handshake(Box::new(handshake)),
            peer: Peer::default(),
        }
    }

    /// Polls the stream, after the handshake.
    pub(super) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut (dyn Stream + 'static)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let State::Handshake(handshake) = &mut self.state {
            let opened = ready!(handshake.poll(context, &self.peer));
            // If the handshake failed, the state stays `Failed`.
            self.state = State::Failed;
            self.state = State::Secure(Box::new(opened?));
        }
        match &mut self.state {
            State::Plain(stream) => act(Pin::new(stream), context),
            State::Secure(stream) => act(Pin::new(stream), context),
            State::Handshake(_) | State::Failed => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// A stream without a finished handshake needs no shutdown.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            State::Secure(stream) => Pin::new(stream).poll_shutdown(context),
            State::Handshake(_) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}

struct Handshake {
    accept: Accept<TcpStream>,
    client: SocketAddr,
    metrics: Metrics,
}

impl Handshake {
    fn poll(&mut self, context: &mut Context<'_>, peer: &Peer) -> Poll<io::Result<Secure>> {
        let accepted = ready!(Pin::new(&mut self.accept).poll(context));
        let opened = accepted.and_then(|stream| {
            let (_, tls) = stream.get_ref();
            if tls.alpn_protocol() != Some(ALPN) {
                return Err(io::Error::other("the client does not offer HTTP/2 (ALPN)"));
            }
            peer.set(tls)?;
            Ok(stream)
        });
        Poll::Ready(opened.inspect_err(|error| self.report(error)))
    }

    /// A client that went away is not reported: load balancers only check that the port is open.
    fn report(&self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Other) {
            self.metrics.handshake_failed();
            let client = self.client;
            warn!(name: LIMITED, %client, %error, "a TLS handshake failed");
        }
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
