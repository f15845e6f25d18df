//! The server, and the life of a connection.
//!
//! 1. `accept` takes the connection from the listener. At the connection limit (`limit`), the
//!    connection that has been idle the longest is closed for it. A connection that cannot be
//!    admitted is closed at once, so that the client does not wait without an answer.
//! 2. tonic serves each connection in a task of its own. The first read or write does the
//!    TLS handshake (`transport`), so a slow client delays only its own connection.
//! 3. A client has `PREFACE_TIMEOUT` for the TLS handshake and the preface of HTTP/2. A client
//!    that takes longer scans ports or attacks the connection limit: `connection` closes it.
//! 4. Keep-alive pings find a client that went away without closing.
//! 5. At the connection age, which differs by 10 % (`age`), tonic sends GOAWAY. The client opens
//!    a new connection for new calls, and its running calls finish.
//! 6. A connection that is still open after the GOAWAY grace period is closed. The grace
//!    period is longer than any call, so only a stream without an end is cut off. A connection with
//!    a running import or a watch of `EdgeService` is closed after it (`long_stream`).
//! 7. When the service stops, nothing more is accepted. Connections without a preface are
//!    closed, because hyper could not send GOAWAY on them; all others get GOAWAY, and their
//!    calls finish. `app` bounds how long that may take.

mod accept;
mod age;
mod connection;
mod connection_info;
mod idle;
mod limit;
mod long_stream;
mod memory;
mod transport;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower::{
    layer::layer_fn,
    util::{MapFutureLayer, MapRequestLayer, MapResponseLayer},
};

pub use self::accept::Tls;
use self::{
    accept::Acceptor,
    memory::{Budget, MeteredConnection},
};
pub(super) use self::{
    age::random_age,
    connection_info::ConnectionInfo,
    limit::{RunningCall, max_watchers},
    long_stream::LongStream,
    memory::{ConnectInfo, PeerId, PeerMemory, STREAM_BYTES},
};
use super::{
    DESCRIPTORS, Handlers, HealthReporter, MAX_MESSAGE_BYTES, Metrics, VALID_DESCRIPTORS,
    admin_service::MAX_PAGE_BYTES,
    layer::{
        BodyBudget, Observer, ServerStreams, Wiping, bounded_streams, end_at_deadline,
        mark_running, metered_answers, observe, with_error_info,
    },
};
use crate::proto::{
    account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
    auth_service_server::AuthServiceServer, edge_service_server::EdgeServiceServer,
    mail_service_server::MailServiceServer, recovery_service_server::RecoveryServiceServer,
};

const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Twice the calls of a connection that may wait for a hash (`connection_info`), so that there
/// are always streams for other calls.
const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
/// The calls that a client may have cancelled before the server begins them. A gateway may
/// cancel many at once; that must not count as the attack of CVE-2023-44487.
const MAX_PENDING_RESETS: usize = 256;
/// The bytes that a client may send before the server reads them, per stream and per
/// connection: the memory that a hostile client can take. hyper's defaults, 1 MiB each, are
/// for files.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients reconnect at about this age ([`age`]). That spreads them over new replicas, and frees
/// read buffers, which may hold a password.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// A query of the other system may take as long before its first row.
const MAX_IMPORT_SILENCE: Duration = Duration::from_mins(1);
/// The part of the GOAWAY grace period for the network, on top of the longest call.
const NETWORK_GRACE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub call: Duration,
    /// The mean; each connection has an age of its own.
    pub connection_age: Duration,
    /// From GOAWAY until the connection is closed. tonic's setting of this name is not used:
    /// with it, tonic sends no GOAWAY and only cuts the connection off.
    pub goaway_grace_period: Duration,
    /// How long the client of an import may send no row, or read no result.
    pub import_silence: Duration,
}

impl Limits {
    pub fn new(call: Duration) -> Self {
        Self {
            call,
            connection_age: MAX_CONNECTION_AGE,
            goaway_grace_period: call + NETWORK_GRACE,
            import_silence: MAX_IMPORT_SILENCE,
        }
    }
}

pub struct Server {
    pub listener: TcpListener,
    pub tls: Tls,
    pub handlers: Handlers,
    pub reflection: bool,
    pub health: HealthReporter,
    pub metrics: Metrics,
    pub limits: Limits,
}

impl Server {
    /// Serves until `stop` is cancelled and the running calls have ended.
    pub async fn serve(self, stop: CancellationToken) {
        let limits = self.limits;
        let metrics = self.metrics.clone();
        let memory = Arc::new(Budget::new(metrics.clone()));
        let acceptor = Acceptor::new(
            self.listener,
            self.tls,
            stop.clone(),
            memory.clone(),
            metrics,
        );
        let streams = Arc::new(ServerStreams::new(limits.call, limits.connection_age));
        let observer = Arc::new(Observer::new(self.metrics));
        let budget = BodyBudget::new();
        let server = http2()
            .layer(layer_fn(move |inner| observe(inner, Arc::clone(&observer))))
            .layer(layer_fn(mark_running))
            .layer(layer_fn(metered_answers))
            .layer(layer_fn(move |inner| end_at_deadline(inner, limits.call)))
            .layer(layer_fn(move |inner| {
                bounded_streams(inner, Arc::clone(&streams))
            }))
            .layer(MapFutureLayer::new(Wiping::new))
            .layer(MapRequestLayer::new(move |request| budget.meter(request)))
            .layer(MapResponseLayer::new(with_error_info));
        // Prepared once: else each connection would have tables of its own.
        let routes = routes(self.handlers, self.health, self.reflection).prepare();
        let connections = TaskTracker::new();
        let next = async || {
            let age = random_age(limits.connection_age);
            let lifetime = age + limits.goaway_grace_period;
            (age, acceptor.next(lifetime).await)
        };
        // tonic sends GOAWAY on all connections of a server at the same age, so each connection
        // has a server of its own.
        while let Some((age, (connection, closed))) = stop.run_until_cancelled(next()).await {
            let goaway = timeout(age, stop.clone().cancelled_owned()).map(drop);
            let (server, routes) = (server.clone(), routes.clone());
            let connection = MeteredConnection::new(connection, &memory);
            connections.spawn(async move {
                let only = only(connection, closed);
                let ended = server.serve_with_incoming_shutdown(routes, only, goaway);
                ended.await.expect("the service is always ready");
            });
        }
        // New clients are refused at once, and try another replica.
        drop(acceptor);
        connections.close();
        connections.wait().await;
    }
}

/// A stream of this connection alone, which ends when the connection is closed.
fn only(
    connection: MeteredConnection,
    closed: oneshot::Receiver<()>,
) -> impl Stream<Item = Result<MeteredConnection, Infallible>> {
    let connection = stream::iter([Ok(connection)]);
    connection.chain(closed.map(|_| stream::empty()).flatten_stream())
}

fn http2() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
}

fn routes(handlers: Handlers, health: HealthReporter, reflection: bool) -> Routes {
    let handlers = Arc::new(handlers);
    let auth = AuthServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let account = AccountServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let recovery = RecoveryServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let admin = AdminServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES + MAX_PAGE_BYTES);
    let edge = EdgeServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mail = MailServiceServer::from_arc(handlers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let health = HealthServer::new(health).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(auth)
        .add_service(account)
        .add_service(recovery)
        .add_service(mail)
        .add_service(admin)
        .add_service(edge)
        .add_service(health);
    if reflection {
        add_reflection(routes)
    } else {
        routes
    }
}

fn add_reflection(routes: Routes) -> Routes {
    let v1 = reflection().build_v1().expect(VALID_DESCRIPTORS);
    let v1alpha = reflection().build_v1alpha().expect(VALID_DESCRIPTORS);
    routes
        .add_service(v1.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(v1alpha.max_decoding_message_size(MAX_MESSAGE_BYTES))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // grpcurl shows the details of an error with these descriptors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}
