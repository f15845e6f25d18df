//! Accepting connections, of which there may be only so many.
//!
//! Each costs memory and a file descriptor, and without descriptors the database cannot be
//! reached either. Whoever comes when the house is full is turned away at once, so that a
//! client tries another replica and does not wait in a queue that nobody sees.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt as _, Stream, stream};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::warn;

use super::{
    tally::Tally,
    transport::{Peer, Transport},
};

/// What handshakes are made with, now; `None` for plain text.
pub type Tls = Option<watch::Receiver<Arc<ServerConfig>>>;

/// Gateways and services hold a few connections each; an idle one takes about 20 KiB.
const MAX_CONNECTIONS: usize = 4096;

/// Descriptors that are not for clients: database, Kafka, log, files, probes.
#[cfg(target_os = "linux")]
const RESERVED_DESCRIPTORS: usize = 128;

/// When the process or the system is out of descriptors, accepting fails at once and would
/// be tried again at once: a core would do nothing else.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How long a client may take to greet us, the handshake of TLS included. Clients do at once;
/// who does not is a port scanner, or wants our places.
const GREETING: Duration = Duration::from_secs(10);

/// The preface of HTTP/2 and the header of the SETTINGS that follow it (RFC 9113, 3.4): from
/// then on hyper can ping the client, and say goodbye.
const GREETING_BYTES: usize = 24 + 9;

/// The connections that come, for as long as somebody asks. One that has not greeted us when
/// `stop` is cancelled is closed: it would hold up the drain. None lives for more than
/// `longest`.
pub(super) fn connections(
    listener: TcpListener,
    tls: Tls,
    longest: Duration,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Connection, io::Error>> {
    let door = Door {
        listener,
        tls,
        longest,
        stop,
        room: Arc::new(Semaphore::new(max_connections())),
        turned_away: Tally::default(),
        failed_handshakes: Arc::default(),
    };
    stream::unfold(door, async |door| Some((Ok(door.next().await), door)))
}

struct Door {
    listener: TcpListener,
    tls: Tls,
    longest: Duration,
    stop: CancellationToken,
    room: Arc<Semaphore>,
    turned_away: Tally,
    failed_handshakes: Arc<Tally>,
}

impl Door {
    async fn next(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => match Arc::clone(&self.room).try_acquire_owned() {
                    Ok(place) => return self.welcome(stream, client, place),
                    Err(_) => self.turn_away(),
                },
                // It was over before we came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "cannot accept a connection; trying again");
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    fn turn_away(&self) {
        if let Some(turned_away) = self.turned_away.add() {
            warn!(turned_away, "too many connections: turning new ones away");
        }
    }

    fn welcome(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Connection {
        // Without it replies are only slower.
        let _ = stream.set_nodelay(true);
        let stop = self.stop.clone();
        let greeting = async move {
            stop.run_until_cancelled(sleep(GREETING)).await;
        };
        let stream = match &self.tls {
            Some(tls) => {
                let (config, failed) = (tls.borrow().clone(), self.failed_handshakes.clone());
                Transport::secure(stream, client, config, failed)
            }
            None => Transport::plain(stream),
        };
        Connection {
            stream,
            greeting_left: GREETING_BYTES,
            end: Box::pin(greeting.fuse()),
            longest: self.longest,
            _place: place,
        }
    }
}

fn max_connections() -> usize {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        let descriptors = getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok());
        descriptors.map_or(MAX_CONNECTIONS, |limit| {
            let for_clients = limit.saturating_sub(RESERVED_DESCRIPTORS);
            MAX_CONNECTIONS.min(for_clients.max(limit / 2))
        })
    }
    #[cfg(not(target_os = "linux"))]
    MAX_CONNECTIONS
}

/// A client's connection, whose place is free again when it is dropped.
pub(super) struct Connection {
    stream: Transport,
    greeting_left: usize,
    /// When it is closed at the latest.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How long it may live from the greeting on.
    longest: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut Transport> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// What the stream says, but not for ever. (Later, only reading waits for the client.)
    fn greeted<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() && self.greeting_left > 0 {
            ready!(self.end.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.stream.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.as_mut().stream().poll_read(context, buffer);
        if read.is_pending() {
            ready!(self.end.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.greeting_left > 0 {
            let came = buffer.filled().len() - before;
            self.greeting_left = self.greeting_left.saturating_sub(came);
            if self.greeting_left == 0 {
                self.end = Box::pin(sleep(self.longest));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write(context, bytes);
        self.greeted(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write_vectored(context, slices);
        self.greeted(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.as_mut().stream().poll_flush(context);
        self.greeted(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
