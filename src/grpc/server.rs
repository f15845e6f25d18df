//! The server, and the life of a connection.
//!
//! 1. `accept` takes the connection from the listener. At the connection limit it closes
//!    the connection at once, so that the client tries another replica and does not wait
//!    without an answer.
//! 2. tonic serves each connection in a task of its own. The first read or write does the
//!    TLS handshake (`transport`), so a slow client delays only its own connection.
//! 3. A client has `PREFACE_TIMEOUT` for the TLS handshake and the preface of HTTP/2. A client
//!    that takes longer scans ports or attacks the connection limit: `connection` closes it.
//! 4. Keep-alive pings find a client that went away without closing.
//! 5. At the connection age, tonic sends GOAWAY. The client opens a new connection for new
//!    calls, and its running calls finish.
//! 6. A connection that is still open after the GOAWAY grace period is closed. The grace
//!    period is longer than any call, so only a stream without an end is cut off.
//! 7. When the service stops, nothing more is accepted. Connections without a preface are
//!    closed, because hyper could not send GOAWAY on them; all others get GOAWAY, and their
//!    calls finish. `app` bounds how long that may take.

mod accept;
mod connection;
mod rate_limited_counter;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::{
    layer::layer_fn,
    util::{MapFutureLayer, MapRequestLayer, MapResponseLayer},
};

pub use self::accept::Tls;
pub(super) use self::transport::Peer;
use super::{
    DESCRIPTORS, Handlers, MAX_MESSAGE_BYTES, Metrics, VALID_DESCRIPTORS,
    layer::{BodyBudget, Observer, Wiping, end_at_deadline, observe, with_error_info},
};
use crate::proto::{
    account_service_server::AccountServiceServer, auth_service_server::AuthServiceServer,
};

const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// A gateway may cancel all its streams at once; that must not count as the attack of
/// CVE-2023-44487.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// The bytes that a client may send before the server reads them, per stream and per
/// connection: the memory that a hostile client can take. hyper's defaults, 1 MiB each, are
/// for files.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients reconnect at this age. That spreads them over new replicas, and frees read
/// buffers, which may hold a password.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// The part of the GOAWAY grace period for the network, on top of the longest call.
const NETWORK_GRACE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub call: Duration,
    pub connection_age: Duration,
    /// From GOAWAY until the connection is closed. tonic's setting of this name is not used:
    /// with it, tonic sends no GOAWAY and only cuts the connection off.
    pub goaway_grace_period: Duration,
}

impl Limits {
    pub fn new(call: Duration) -> Self {
        Self {
            call,
            connection_age: MAX_CONNECTION_AGE,
            goaway_grace_period: call + NETWORK_GRACE,
        }
    }
}

pub struct Server {
    pub listener: TcpListener,
    pub tls: Tls,
    pub handlers: Handlers,
    pub health: HealthReporter,
    pub metrics: Metrics,
    pub limits: Limits,
}

impl Server {
    /// Serves until `stop` is cancelled and the running calls have ended.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
        let limits = self.limits;
        let lifetime = limits.connection_age + limits.goaway_grace_period;
        let connections = accept::connections(self.listener, self.tls, lifetime, stop.clone());
        let observer = Arc::new(Observer::new(self.metrics));
        let budget = BodyBudget::new();
        http2(limits.connection_age)
            .layer(layer_fn(move |inner| observe(inner, Arc::clone(&observer))))
            .layer(layer_fn(move |inner| end_at_deadline(inner, limits.call)))
            .layer(MapFutureLayer::new(Wiping::new))
            .layer(MapRequestLayer::new(move |request| budget.meter(request)))
            .layer(MapResponseLayer::new(with_error_info))
            .add_routes(routes(self.handlers, self.health))
            .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
            .await
    }
}

fn http2(max_connection_age: Duration) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_connection_age(max_connection_age)
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS_PER_CONNECTION as usize))
}

fn routes(handlers: Handlers, health: HealthReporter) -> Routes {
    let handlers = Arc::new(handlers);
    let auth = AuthServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let account = AccountServiceServer::from_arc(handlers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let health = HealthServer::new(HealthService::from_health_reporter(health))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let v1 = reflection().build_v1().expect(VALID_DESCRIPTORS);
    let v1alpha = reflection().build_v1alpha().expect(VALID_DESCRIPTORS);
    Routes::new(auth)
        .add_service(account)
        .add_service(health)
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
