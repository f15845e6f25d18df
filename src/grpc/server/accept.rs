//! Accepts connections, up to the connection limit.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    connection::Connection,
    connection_info::is_loopback,
    limit::{ConnectionLimit, Slot, max_connections},
    memory::Budget,
    transport::Transport,
};
use crate::{grpc::Metrics, telemetry::LIMITED};

/// The TLS settings for new handshakes; `None` for plain text.
pub type Tls = Option<watch::Receiver<Arc<ServerConfig>>>;

/// When the process or the system is out of descriptors, `accept` fails at once. Without a
/// pause the retries would take a whole core.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

pub(super) struct Acceptor {
    listener: TcpListener,
    tls: Tls,
    stop: CancellationToken,
    limit: ConnectionLimit,
    metrics: Metrics,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        tls: Tls,
        stop: CancellationToken,
        memory: Arc<Budget>,
        metrics: Metrics,
    ) -> Self {
        Self {
            listener,
            tls,
            stop,
            limit: ConnectionLimit::new(max_connections(), memory, metrics.clone()),
            metrics,
        }
    }

    /// The next connection, and a receiver that completes when it is closed. It lives at most
    /// for `lifetime` after its preface.
    pub(super) async fn next(&self, lifetime: Duration) -> (Connection, oneshot::Receiver<()>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    if let Some(slot) = self.limit.admit().await {
                        return self.open(stream, client, slot, lifetime);
                    }
                }
                // The client closed it before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(name: LIMITED, %error, "cannot accept a connection; trying again");
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    fn open(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        slot: Slot,
        lifetime: Duration,
    ) -> (Connection, oneshot::Receiver<()>) {
        // If this fails, replies are only slower.
        let _ = stream.set_nodelay(true);
        let is_private = self.tls.is_some() || is_loopback(stream.local_addr());
        let transport = match &self.tls {
            Some(tls) => {
                let config = tls.borrow().clone();
                Transport::secure(stream, client, config, self.metrics.clone())
            }
            None => Transport::plain(stream),
        };
        Connection::new(transport, is_private, lifetime, self.stop.clone(), slot)
    }
}
