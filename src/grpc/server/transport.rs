//! The byte stream of a connection: plain text or TLS.
//!
//! The first read or write does the TLS handshake. It therefore runs in the connection's own
//! task, delays no other connection, and counts towards the preface time-out.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls::{ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::io::InspectReader;
use tracing::warn;

use crate::{
    grpc::Metrics,
    telemetry::LIMITED,
    tls::{certificate, server::ALPN},
};

/// A client's part of the handshake. Certificates of a client with all authorities above it take
/// a few KiB. rustls would allow 64 KiB, and its buffer may be twice as large.
const MAX_HANDSHAKE_BYTES: usize = 16 * 1024;

/// The encrypted bytes that rustls keeps for a client that does not read: one record.
const MAX_UNSENT_BYTES: usize = 16 * 1024;

/// How much of the memory budget an encrypted connection takes. With a record that is not
/// complete and one that is not read it may be twice as much, for a part of the connections.
const TLS_BYTES: usize = 16 * 1024;

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

type Counted = InspectReader<TcpStream, Box<dyn FnMut(&[u8]) + Send>>;
type Secure = TlsStream<Counted>;

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
        let received = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&received);
        let count = move |bytes: &[u8]| {
            counter.fetch_add(bytes.len(), Ordering::Relaxed);
        };
        let stream: Counted = InspectReader::new(stream, Box::new(count));
        let accept = TlsAcceptor::from(config).accept_with(stream, |tls| {
            tls.set_buffer_limit(Some(MAX_UNSENT_BYTES));
        });
        let handshake = Handshake {
            accept,
            received,
            client,
            metrics,
        };
        Self {
            state: State::Handshake(Box::new(handshake)),
            peer: Peer::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self.state {
            State::Plain(_) => 0,
            State::Handshake(_) | State::Secure(_) | State::Failed => TLS_BYTES,
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
    accept: Accept<Counted>,
    received: Arc<AtomicUsize>,
    client: SocketAddr,
    metrics: Metrics,
}

impl Handshake {
    fn poll(&mut self, context: &mut Context<'_>, peer: &Peer) -> Poll<io::Result<Secure>> {
        let accepted = Pin::new(&mut self.accept).poll(context);
        if accepted.is_pending() && self.received.load(Ordering::Relaxed) > MAX_HANDSHAKE_BYTES {
            let error = io::Error::other("the client sent too much for a handshake");
            self.report(&error);
            return Poll::Ready(Err(error));
        }
        let opened = ready!(accepted).and_then(|stream| {
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
