//! The audit log: one line for each thing that a security team wants to know of.
//!
//! The lines have the target `audit` and these fields, each left out where it does not
//! apply: `event`, `outcome`, `reason`, `user_id`, `session_id`, `caller`. Words come from
//! fixed sets, which `deploy/telemetry.md` lists. Ids only: never an e-mail address, a token
//! or anything else that somebody typed. `LOG` does not silence them.

use tracing::{field::display, info};

use crate::model::{SessionId, UserId};

/// The target of the lines.
pub(super) const TARGET: &str = "audit";

/// A line to be written.
#[derive(Clone, Copy)]
#[must_use]
pub struct Audit<'a> {
    event: &'static str,
    user_id: Option<UserId>,
    session_id: Option<SessionId>,
    caller: Option<&'a str>,
}

impl<'a> Audit<'a> {
    /// Something that happened, or was tried.
    pub const fn of(event: &'static str) -> Self {
        Self {
            event,
            user_id: None,
            session_id: None,
            caller: None,
        }
    }

    /// Whose account it is about, if there is one.
    pub fn user(self, id: impl Into<Option<UserId>>) -> Self {
        let user_id = id.into().or(self.user_id);
        Self { user_id, ..self }
    }

    /// Which session it is about, if it is about one.
    pub fn session(self, id: impl Into<Option<SessionId>>) -> Self {
        let session_id = id.into();
        Self { session_id, ..self }
    }

    /// Which internal service asked.
    pub fn caller(self, name: Option<&'a str>) -> Self {
        let caller = name;
        Self { caller, ..self }
    }

    /// It was done.
    pub fn ok(self) {
        self.write("ok", None);
    }

    /// It was not done, and why.
    pub fn failed(self, reason: &'static str) {
        self.write("failed", Some(reason));
    }

    fn write(self, outcome: &'static str, reason: Option<&'static str>) {
        let Self { event, caller, .. } = self;
        let user_id = self.user_id.as_ref().map(display);
        let session_id = self.session_id.as_ref().map(display);
        info!(target: TARGET, event, outcome, reason, user_id, session_id, caller);
    }
}
