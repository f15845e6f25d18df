//! The use cases.
//!
//! All input was parsed at the edge, so a use case only decides. It reads the clock once for
//! each transaction, writes what belongs together in one transaction, and returns an
//! [`Error`] that the API contract defines.
//!
//! A session is one row for its whole life. Its refresh token consists of a handle, which
//! names the row, and a secret, which each [`Auth::refresh`] replaces.

mod access_token;
mod admin;
mod caller;
mod change_email;
mod change_password;
mod claim_mail;
mod commits;
mod confirm_email;
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
mod request_password_reset;
mod reset_password;
mod revert_email;
mod revocations;
mod session;
mod settings;
mod signing_key;
mod stored_data;
mod throttle;
mod verification;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::{sync::Semaphore, time::Instant};
use tracing::debug;

pub use self::{
    access_token::{AccessToken, Issuer, Subject},
    admin::{
        Admin, CheckedRow, ExportError, ExportPage, ExportedUser, Hashes, IMPORT_BATCH, Import,
        ImportCounts, ImportPace, ImportTurn, Page, PageRequest, UserRef,
    },
    caller::Caller,
    change_email::ChangeEmail,
    change_password::ChangedPassword,
    claim_mail::MailToSend,
    commits::Commits,
    confirm_email::ConfirmedEmail,
    error::{Error, Fault},
    login::{LoggedIn, Login},
    register::{Register, Registered},
    request_password_reset::{PasswordResetRequest, answer_delay},
    reset_password::{PasswordReset, ResetPassword},
    revocations::{Page as RevokedPage, Revocations, Watcher},
    session::{Device, StartedSession, TokenPair},
    settings::{EmailVerification, Lifetimes, SessionEvents, Settings, SigningSecrets},
    signing_key::SigningKey,
};
use self::{metrics::Metrics, throttle::Throttle};
use crate::{
    db::Db,
    model::{
        Act, Administrator, ClientAddress, Clock, DataKeys, Event, Timestamp, Traceparent,
        Transition,
    },
    password::{self, Began, Hasher, Policy, Priority},
    telemetry::audit::{self, Audit},
};

/// Look-ups at a time for logins with a device token while the queue of hashes is full. They
/// leave most of the 16 connections of a database to calls that need no hash.
const FULL_LOOK_UPS: usize = 4;

/// All use cases. They keep no state in memory, so any number of replicas may run.
pub struct Auth {
    db: Db,
    hasher: Arc<Hasher>,
    policy: Policy,
    issuer: Issuer,
    data_keys: Arc<DataKeys>,
    transition: Transition,
    lifetimes: Lifetimes,
    email_verification: EmailVerification,
    session_events: SessionEvents,
    throttle: Throttle,
    /// While the queue is full for all but known devices, only the account's row shows whether a
    /// device token is genuine. Forged tokens cost no hash then, so their look-ups are bounded.
    full_look_ups: Semaphore,
    clock: Arc<dyn Clock>,
    commits: Commits,
    metrics: Metrics,
}

pub struct Parts {
    pub db: Db,
    pub hasher: Arc<Hasher>,
    pub policy: Policy,
    pub transition: Transition,
    pub clock: Arc<dyn Clock>,
    pub commits: Commits,
}

/// The context of a call.
#[derive(Clone, Debug)]
pub struct Call {
    pub deadline: Instant,
    pub traceparent: Option<Traceparent>,
    /// `None` unless a trusted caller has sent it.
    pub client_address: Option<ClientAddress>,
    /// For the audit log.
    pub context: audit::Context,
}

impl Call {
    fn act(&self, now: Timestamp) -> Act {
        Act {
            now,
            traceparent: self.traceparent.clone(),
            administrator: None,
        }
    }

    /// The act of an internal service with the right to administrate.
    fn admin_act(&self, now: Timestamp) -> Act {
        let caller = self.context.caller.clone();
        let administrator = Administrator {
            caller: caller.expect("the edge has checked the scope of a caller"),
            person: self.context.person.clone(),
        };
        Act {
            administrator: Some(administrator),
            ..self.act(now)
        }
    }

    /// A hash that has to be done before the deadline of the call.
    fn hash(&self, priority: Priority) -> password::Request {
        password::Request {
            priority,
            deadline: self.deadline,
            began: Began::default(),
        }
    }

    fn audit(&self, event: audit::Event) -> Audit<'_> {
        Audit::of(event, &self.context)
    }
}

impl Auth {
    pub fn new(settings: Settings, parts: Parts, registry: &mut Registry) -> Self {
        let Settings {
            secrets,
            data_keys,
            issuer,
            audience,
            lifetimes,
            throttle,
            email_verification,
            session_events,
        } = settings;
        Self {
            hasher: parts.hasher,
            policy: parts.policy,
            issuer: Issuer::new(secrets, issuer, audience, lifetimes.access_token),
            throttle: Throttle::new(
                parts.db.clone(),
                throttle,
                Arc::clone(&data_keys),
                Arc::clone(&parts.clock),
            ),
            full_look_ups: Semaphore::new(FULL_LOOK_UPS),
            db: parts.db,
            data_keys,
            transition: parts.transition,
            lifetimes,
            email_verification,
            session_events,
            clock: parts.clock,
            commits: parts.commits,
            metrics: Metrics::register(registry),
        }
    }

    /// The issuer, whose keys `GetSigningKey` and `Watch` publish.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub fn data_keys(&self) -> &DataKeys {
        &self.data_keys
    }

    /// Logs a committed event and wakes those who read it.
    fn committed(&self, event: &Event) {
        debug!(event_id = %event.id, event_type = event.event_type(),
            user_id = %event.user_id, "event written");
        self.commits.notify();
    }
}
