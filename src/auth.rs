//! The use cases: one file each, with its request and its answer. Start reading here.
//!
//! All input was parsed at the edge ([`Email`](crate::model::Email),
//! [`RefreshToken`](crate::model::RefreshToken), ..), so a use case only decides. It reads
//! the clock once per transaction, writes everything that belongs together in one
//! transaction, and fails with an [`Error`] in the words of the contract.
//!
//! A session is one row for its whole life. A refresh token names the row by its handle and
//! proves by its secret that its holder is up to date. Each [`Auth::refresh`] replaces the
//! secret.

pub mod access_token;
mod caller;
mod change_password;
mod credentials;
mod delete_account;
mod error;
mod hs256;
mod login;
mod logout;
mod metrics;
mod own_sessions;
mod refresh;
mod register;
mod session;
mod settings;
mod throttle;

use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};
use tracing::debug;

pub use self::{
    access_token::{AccessToken, Issuer, SigningKey},
    caller::Caller,
    error::{Error, Fault},
    login::{LoggedIn, Login},
    metrics::Metrics,
    register::{Register, Registered},
    session::{StartedSession, TokenPair},
    settings::{Lifetimes, Settings, SigningSecrets},
};
use crate::{
    db::Db,
    model::{Act, ClientAddress, Clock, Event, ThrottleLimits, Timestamp, Traceparent},
    password::{Hasher, Policy},
};

/// The identity core. All state is in the database: any number of replicas may run.
pub struct Auth {
    /// Where accounts and sessions are.
    pub db: Db,
    /// Where passwords are hashed.
    pub hasher: Hasher,
    /// What a new password must satisfy.
    pub password_policy: Policy,
    /// How much guessing is let through.
    pub throttle: ThrottleLimits,
    /// Who signs access tokens.
    pub issuer: Issuer,
    /// How long tokens and sessions live.
    pub lifetimes: Lifetimes,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Wakes the outbox poller after a commit.
    pub outbox: Arc<Notify>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What a use case knows of the call it serves.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the answer is of no use any more.
    pub deadline: Instant,
    /// The caller's W3C trace context.
    pub traceparent: Option<Traceparent>,
    /// Where it comes from, if somebody said so who is trusted.
    pub client_address: Option<ClientAddress>,
}

impl Call {
    fn act(&self, now: Timestamp) -> Act {
        Act {
            now,
            traceparent: self.traceparent.clone(),
        }
    }
}

impl Auth {
    /// Logs a committed event and wakes the outbox poller.
    fn committed(&self, event: &Event) {
        debug!(event_id = %event.id, event_type = event.event_type(),
            user_id = %event.user_id, "event written");
        self.outbox.notify_one();
    }
}
