//! The gRPC server: `AuthService`, `AccountService`, health and reflection.
//!
//! A handler reads the message (`convert`), calls one use case and writes the reply.
//! Around them lie four layers. `observe`: every call is counted and traced. `deadline`: no call outlives its deadline. `room`: what
//! unfinished messages take is bounded. `unreadable`: what tonic itself refuses is answered in
//! our words. Errors become a `Status` in one place, `status`.

mod accept;
mod account;
mod caller;
mod convert;
mod deadline;
mod methods;
mod metrics;
mod observe;
mod room;
mod status;
mod tally;
mod trace;
mod transport;
mod unreadable;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::util::{MapRequestLayer, MapResponseLayer};

pub use self::{
    accept::Tls,
    caller::{InternalCallers, InternalToken},
    metrics::Metrics,
};
use self::{deadline::DeadlineLayer, methods::Methods, observe::ObserveLayer, room::Room};
use crate::{
    auth::{Auth, Call, Error},
    proto::{
        self,
        account_service_server::AccountServiceServer,
        auth_service_server::{AuthService, AuthServiceServer},
    },
    telemetry::audit,
};

/// The name of `AuthService` in health checks.
pub const SERVICE_NAME: &str = <AuthServiceServer<Handlers> as tonic::server::NamedService>::NAME;
/// The name of `AccountService` in health checks.
pub const ACCOUNT_SERVICE_NAME: &str =
    <AccountServiceServer<Handlers> as tonic::server::NamedService>::NAME;

/// The largest request: ours are far below one kilobyte.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// A gateway may also cancel them all at once: that is no attack (CVE-2023-44487) yet.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// What a client may send before we ask for more, on one stream and on all of a connection:
/// as much as a hostile one can make us keep. hyper's defaults, 1 MiB each, are for files.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Then the client is told to reconnect (GOAWAY), and its calls finish. So clients spread over
/// new replicas, and read buffers, which may hold a password, are freed. tonic's grace period
/// would cut the calls off instead.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// For the way to the client and back, on top of the longest call.
const FAREWELL: Duration = Duration::from_mins(1);

const EMBEDDED: &str = "the build embeds descriptors that it has checked";
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How long calls and connections may last.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A call.
    pub call: Duration,
    /// A connection, until its client is asked to go.
    pub connection: Duration,
    /// A connection whose client was asked to go: only a stream without an end is cut then.
    pub farewell: Duration,
}

impl Limits {
    /// As they are but for tests, which have no five minutes.
    #[must_use]
    pub fn new(call: Duration) -> Self {
        Self {
            call,
            connection: MAX_CONNECTION_AGE,
            farewell: call + FAREWELL,
        }
    }
}

/// Serves until `stop` is cancelled and the calls that run then have ended.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    handlers: Handlers,
    health: HealthServer<impl Health>,
    metrics: Metrics,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let handlers = Arc::new(handlers);
    let auth_service = AuthServiceServer::from_arc(Arc::clone(&handlers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let account_service = AccountServiceServer::from_arc(handlers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let room = Room::new();
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_connection_age(limits.connection)
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS_PER_CONNECTION as usize))
        .layer(ObserveLayer::new(Methods::decode(), metrics))
        .layer(DeadlineLayer {
            longest: limits.call,
        })
        .layer(MapRequestLayer::new(move |request| room.meter(request)))
        .layer(MapResponseLayer::new(unreadable::explain))
        .add_service(auth_service)
        .add_service(account_service)
        .add_service(health.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(
            reflection()
                .build_v1()
                .expect(EMBEDDED)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect(EMBEDDED)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(
            accept::connections(
                listener,
                tls,
                limits.connection + limits.farewell,
                stop.clone(),
            ),
            stop.cancelled_owned(),
        )
        .await
}

/// The RPCs of both services.
pub struct Handlers {
    /// The use cases.
    pub auth: Arc<Auth>,
    /// Who may ask for the signing key.
    pub internal_callers: InternalCallers,
}

impl Handlers {
    /// What a use case that asks the throttle needs to know of a request.
    fn call<T>(&self, request: &Request<T>) -> Result<Call, Error> {
        Ok(Call {
            client_address: self.internal_callers.client_address(request)?,
            ..deadline::call(request)
        })
    }
}

#[tonic::async_trait]
impl AuthService for Handlers {
    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let call = self.call(&request)?;
        let register = convert::register(request.into_inner())?;
        let registered = self.auth.register(register, &call).await?;
        Ok(Response::new(registered.into()))
    }

    async fn login(
        &self,
        request: Request<proto::LoginRequest>,
    ) -> Result<Response<proto::LoginResponse>, Status> {
        let call = self.call(&request)?;
        let login = convert::login(request.into_inner())?;
        let logged_in = self.auth.login(login, &call).await?;
        Ok(Response::new(logged_in.into()))
    }

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<proto::RefreshResponse>, Status> {
        let call = deadline::call(&request);
        let token = convert::refresh_token(request.into_inner().refresh_token)?;
        let tokens = self.auth.refresh(token, &call).await?;
        Ok(Response::new(tokens.into()))
    }

    async fn logout(
        &self,
        request: Request<proto::LogoutRequest>,
    ) -> Result<Response<proto::LogoutResponse>, Status> {
        let call = deadline::call(&request);
        let token = convert::refresh_token(request.into_inner().refresh_token)?;
        self.auth.logout(token, &call).await?;
        Ok(Response::new(proto::LogoutResponse {}))
    }

    async fn get_signing_key(
        &self,
        request: Request<proto::GetSigningKeyRequest>,
    ) -> Result<Response<proto::GetSigningKeyResponse>, Status> {
        self.internal_callers
            .authorise(&request, audit::Event::SigningKey)?;
        Ok(Response::new((&self.auth.issuer).into()))
    }
}
