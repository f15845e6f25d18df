//! The gRPC server. It serves `AuthService`, `AccountService`, health and reflection.
//!
//! A handler reads the message, calls one use case of [`crate::auth`] and writes the reply.
//! `status` is the one place that maps an error to a `Status`. A call passes the layers of
//! `layer`, and `server` describes the life of a connection.
//!
//! A new RPC needs no change to metrics, traces and reflection, which read the embedded
//! descriptors. A new service needs its file in `build.rs`, a line in `server::routes` and its
//! name here and in `app/health.rs`.

mod account_service;
mod auth_service;
mod convert;
mod internal_callers;
mod layer;
mod metrics;
mod server;
mod status;

use std::sync::Arc;

use tonic::{Request, metadata::MetadataMap, server::NamedService};

pub use self::{
    internal_callers::{InternalCallers, InternalToken},
    metrics::Metrics,
    server::{Limits, Server, Tls},
};
use crate::{
    auth::{Auth, Call, Caller, Error},
    model::Traceparent,
    proto::{account_service_server::AccountServiceServer, auth_service_server::AuthServiceServer},
};

/// Service names, as health checks use them.
pub const SERVICE_NAME: &str = AuthServiceServer::<Handlers>::NAME;
pub const ACCOUNT_SERVICE_NAME: &str = AccountServiceServer::<Handlers>::NAME;

/// The largest message. Our messages are far below one kilobyte.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const VALID_DESCRIPTORS: &str = "the build checks the descriptors that it embeds";

pub struct Handlers {
    pub auth: Arc<Auth>,
    pub internal_callers: InternalCallers,
}

impl Handlers {
    /// The context of a call that the throttle counts: with the client's address.
    fn throttled_call<T>(&self, request: &Request<T>) -> Result<Call, Error> {
        Ok(Call {
            client_address: self.internal_callers.client_address(request)?,
            ..call(request)
        })
    }

    /// The user whose access token came with the call.
    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Error> {
        let token = self.internal_callers.user_token(metadata);
        let token = token.ok_or(Error::InvalidToken)?;
        self.auth.authenticate(token).await
    }
}

/// The context of a call that the throttle does not count.
fn call<T>(request: &Request<T>) -> Call {
    Call {
        deadline: layer::Deadline::of(request.extensions()),
        traceparent: request.extensions().get::<Traceparent>().cloned(),
        client_address: None,
    }
}
