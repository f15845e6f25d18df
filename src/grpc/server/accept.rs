//! Accepts connections, up to the connection limit.
//!
//! Each connection costs memory and a file descriptor, and without a free descriptor the
//! service cannot reach the database either.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, stream};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    connection::Connection, rate_limited_counter::RateLimitedCounter, transport::Transport,
};

/// The TLS settings for new handshakes; `None` for plain text.
pub type Tls = Option<watch::Receiver<Arc<ServerConfig>>>;

/// Gateways and services hold a few connections each. An idle one takes about 20 KiB.
const MAX_CONNECTIONS: usize = 4096;

/// File descriptors for everything else: database, Kafka, log, files, probes.
#[cfg(target_os = "linux")]
const RESERVED_DESCRIPTORS: usize = 128;

/// When the process or the system is out of descriptors, `accept` fails at once. Without a
/// pause the retries would take a whole core.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// An endless stream of connections. Each lives at most for `lifetime` after its preface.
pub(super) fn connections(
    listener: TcpListener,
    tls: Tls,
    lifetime: Duration,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let acceptor = Acceptor {
        listener,
        tls,
        lifetime,
        stop,
        connection_limit: Arc::new(Semaphore::new(max_connections())),
        refused: RateLimitedCounter::default(),
        failed_handshakes: Arc::default(),
    };
    stream::unfold(acceptor, async |acceptor| {
        Some((Ok(acceptor.next().await), acceptor))
    })
}

struct Acceptor {
    listener: TcpListener,
    tls: Tls,
    lifetime: Duration,
    stop: CancellationToken,
    connection_limit: Arc<Semaphore>,
    refused: RateLimitedCounter,
    failed_handshakes: Arc<RateLimitedCounter>,
}

impl Acceptor {
    async fn next(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    match Arc::clone(&self.connection_limit).try_acquire_owned() {
                        Ok(permit) => return self.open(stream, client, permit),
                        Err(_) => self.log_connection_limit(),
                    }
                }
                // The client closed it before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "cannot accept a connection; trying again");
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    fn log_connection_limit(&self) {
        if let Some(turned_away) = self.refused.add() {
            warn!(turned_away, "too many connections: closing new ones");
        }
    }

    fn open(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Connection {
        // If this fails, replies are only slower.
        let _ = stream.set_nodelay(true);
        let transport = match &self.tls {
            Some(tls) => {
                let (config, failed) = (tls.borrow().clone(), self.failed_handshakes.clone());
                Transport::secure(stream, client, config, failed)
            }
            None => Transport::plain(stream),
        };
        Connection::new(transport, self.lifetime, self.stop.clone(), permit)
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
