//! The audit log: one line for each event that matters to a security team.
//!
//! The lines have the target `audit` and these fields, each left out where it does not apply:
//! `event`, `outcome`, `reason`, `user_id`, `session_id`, `caller`. They hold words of this
//! file and ids, never an e-mail address, a token or other text that a client sent. `LOG` does
//! not silence them. A flood of failures is summed up, except for some
//! reasons. Operators read about them in `deploy/telemetry.md`.

use tracing::{field::display, info};

use super::flood::LIMITED;
use crate::model::{SessionId, UserId};

pub(super) const TARGET: &str = "audit";
pub(super) const FAILED: &str = "failed";

/// An enum whose values are words of the log.
macro_rules! words {
    ($vis:vis enum $name:ident { $($value:ident = $word:literal,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($value,)+ }

        impl $name {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            const fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }
    };
}

words! {
    pub enum Event {
        Register = "register",
        Login = "login",
        Refresh = "refresh",
        Logout = "logout",
        EndSession = "end_session",
        EndOtherSessions = "end_other_sessions",
        ChangePassword = "change_password",
        DeleteAccount = "delete_account",
        GetAccount = "get_account",
        ListSessions = "list_sessions",
        SigningKey = "signing_key",
    }
}

words! {
    pub enum Reason {
        EmailTaken = "email_taken",
        Throttled = "throttled",
        WrongPassword = "wrong_password",
        PasswordChanged = "password_changed",
        UnknownUser = "unknown_user",
        Reused = "reused",
        UnknownCaller = "unknown_caller",
        PlaintextConnection = "plaintext_connection",
        InvalidArgument = "invalid_argument",
        InvalidToken = "invalid_token",
        Overloaded = "overloaded",
        DeadlineExceeded = "deadline_exceeded",
        Abandoned = "abandoned",
    }
}

impl Reason {
    /// Whether each line is written in full, because it names an account that is attacked: its
    /// password is guessed, or its refresh token was used twice. If these lines were summed up,
    /// an attacker could hide them behind failures of accounts of his own. Each of them takes a
    /// password hash, now or at the start of its session, so there cannot be many.
    const fn is_never_summed_up(self) -> bool {
        matches!(
            self,
            Self::WrongPassword | Self::PasswordChanged | Self::Reused
        )
    }
}

/// A line, written by [`Audit::ok`] or [`Audit::failed`].
#[derive(Clone, Copy)]
#[must_use]
pub struct Audit<'a> {
    event: Event,
    user_id: Option<UserId>,
    session_id: Option<SessionId>,
    caller: Option<&'a str>,
}

impl<'a> Audit<'a> {
    pub const fn of(event: Event) -> Self {
        Self {
            event,
            user_id: None,
            session_id: None,
            caller: None,
        }
    }

    pub fn user(self, id: impl Into<Option<UserId>>) -> Self {
        let user_id = id.into().or(self.user_id);
        Self { user_id, ..self }
    }

    pub fn session(self, id: impl Into<Option<SessionId>>) -> Self {
        let session_id = id.into();
        Self { session_id, ..self }
    }

    /// The internal service that called.
    pub fn caller(self, name: impl Into<Option<&'a str>>) -> Self {
        let caller = name.into();
        Self { caller, ..self }
    }

    pub fn ok(self) {
        let (event, outcome, caller) = (self.event.word(), "ok", self.caller);
        let user_id = self.user_id.as_ref().map(display);
        let session_id = self.session_id.as_ref().map(display);
        info!(target: TARGET, event, outcome, user_id, session_id, caller);
    }

    pub fn failed(self, reason: Reason) {
        let in_full = reason.is_never_summed_up();
        let (event, outcome, reason) = (self.event.word(), FAILED, reason.word());
        let (user_id, caller) = (self.user_id.as_ref().map(display), self.caller);
        let session_id = self.session_id.as_ref().map(display);
        if in_full {
            info!(target: TARGET, event, outcome, reason, user_id, session_id, caller);
        } else {
            info!(name: LIMITED, target: TARGET,
                event, outcome, reason, user_id, session_id, caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_each_word() {
        let page = include_str!("../../deploy/telemetry.md");
        let (_, section) = page.split_once("\n## Audit\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let words = (Event::ALL.iter().map(|value| value.word()))
            .chain(Reason::ALL.iter().map(|value| value.word()))
            .chain(["ok", FAILED]);
        for word in words {
            assert!(section.contains(&format!("`{word}`")), "{word}");
        }
    }
}
