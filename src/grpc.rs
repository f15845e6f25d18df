//! The gRPC server. It serves `AuthService`, `AccountService`, `RecoveryService`, `MailService`,
//! `AdminService`, `EdgeService`, health and reflection.
//!
//! A handler reads the message, calls one use case of [`crate::auth`] and writes the reply.
//! `status` is the one place that maps an error to a `Status`. A call passes the layers of
//! `layer`, and `server` describes the life of a connection.
//!
//! A new RPC needs no change to metrics, traces and reflection, which read the embedded
//! descriptors. A new service needs its file in `build.rs`, a line in `server::routes` and its
//! name here and in `health`.

mod account_service;
mod admin_service;
mod audited_call;
mod auth_service;
mod convert;
mod edge_service;
mod health;
mod import_users;
mod internal_callers;
mod layer;
mod mail_service;
mod metrics;
mod recovery_service;
mod server;
mod status;

use std::sync::Arc;

use prost_types::Duration as ProtoDuration;
use tonic::{Request, metadata::MetadataMap, server::NamedService};

use self::{
    audited_call::AuditedCall,
    internal_callers::{Identity, ReceivedAddress},
};
pub use self::{
    edge_service::Watches,
    health::HealthReporter,
    import_users::Imports,
    internal_callers::{InternalCallers, InternalToken, Scope, Scopes},
    metrics::Metrics,
    server::{Limits, Server, Tls},
};
use crate::{
    auth::{Admin, Auth, Caller, Error, Revocations},
    model::Fingerprint,
    proto::{
        account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
        auth_service_server::AuthServiceServer, edge_service_server::EdgeServiceServer,
        mail_service_server::MailServiceServer, recovery_service_server::RecoveryServiceServer,
    },
    telemetry::audit::{Context, Event},
};

/// Service names, as health checks use them.
pub const SERVICE_NAME: &str = AuthServiceServer::<Handlers>::NAME;
pub const ACCOUNT_SERVICE_NAME: &str = AccountServiceServer::<Handlers>::NAME;
pub const RECOVERY_SERVICE_NAME: &str = RecoveryServiceServer::<Handlers>::NAME;
pub const ADMIN_SERVICE_NAME: &str = AdminServiceServer::<Handlers>::NAME;
pub const MAIL_SERVICE_NAME: &str = MailServiceServer::<Handlers>::NAME;
pub const EDGE_SERVICE_NAME: &str = EdgeServiceServer::<Handlers>::NAME;

/// The largest message but for pages of accounts. Most messages are far below one kilobyte.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How long a gateway may cache the keys. A key that was published this long ago is known to
/// every gateway.
const KEYS_MAX_AGE: ProtoDuration = ProtoDuration {
    seconds: 300,
    nanos: 0,
};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const VALID_DESCRIPTORS: &str = "the build checks the descriptors that it embeds";

/// What the server offers to the network beside the calls themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    pub reflection: bool,
    /// The keys also over an unencrypted connection at an address other than loopback.
    pub plaintext_keys: bool,
}

pub struct Handlers {
    pub auth: Arc<Auth>,
    pub admin: Arc<Admin>,
    pub imports: Imports,
    pub revocations: Revocations,
    pub watches: Watches,
    pub internal_callers: InternalCallers,
    /// See [`Exposure`].
    pub plaintext_keys: bool,
}

/// The sender of a call and the client's address.
struct Origin<'a> {
    identity: Identity<'a>,
    client_address: ReceivedAddress,
    context: Context,
}

impl Handlers {
    /// The start of a call, for the audit log.
    fn audited<T>(&self, event: Event, request: &Request<T>) -> AuditedCall<'_> {
        AuditedCall::begin(event, self.origin(request), request)
    }

    fn origin<T>(&self, request: &Request<T>) -> Origin<'_> {
        let identity = self.internal_callers.identify(request);
        let client_address = identity.client_address(request);
        // A malformed address is refused elsewhere.
        let address = client_address.ok().flatten();
        let context = Context {
            caller: identity.name(),
            person: None,
            address: address.map(|address| self.fingerprint("address", address.as_bytes())),
            email: None,
        };
        Origin {
            identity,
            client_address,
            context,
        }
    }

    fn fingerprint(&self, kind: &str, value: &[u8]) -> Fingerprint {
        self.auth.data_keys().current().fingerprint(kind, value)
    }

    /// The user whose access token came with the call.
    async fn caller(
        &self,
        metadata: &MetadataMap,
        audited: &mut AuditedCall<'_>,
    ) -> Result<Caller, Error> {
        let token = self.internal_callers.user_token(metadata);
        let token = token.ok_or(Error::InvalidToken)?;
        let caller = self.auth.authenticate(token).await?;
        audited.by(&caller);
        Ok(caller)
    }
}
