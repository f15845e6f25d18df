//! The audit log: one line for each event that matters to a security team.
//!
//! The lines have the target `audit` and these fields, each left out where it does not apply:
//! `event`, `outcome`, `reason`, `user_id`, `email_hash`, `session_id`,
//! `mail_request_id`, `caller`, `actor`, `address_hash`. They hold words of this file, ids and keyed
//! hashes, never an e-mail address, a token or other text that a client sent. The exceptions are
//! two texts of an administrator: `actor` names the person, and `reason` is why an account was
//! suspended, or that an export has the password hashes. `LOG` does not silence them. A flood of
//! failures is summed up, except for some reasons. Operators read about them in
//! `deploy/telemetry.md`.

use std::fmt::Display;

use tracing::{
    field::{DisplayValue, display},
    info,
};

use super::flood::LIMITED;
use crate::model::{Fingerprint, MailRequestId, Person, SessionId, UserId};

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
        EdgeWatch = "edge_watch",
        RequestPasswordReset = "request_password_reset",
        ResetPassword = "reset_password",
        ClaimMail = "claim_mail",
        RequestEmailVerification = "request_email_verification",
        ConfirmEmail = "confirm_email",
        ChangeEmail = "change_email",
        RevertEmail = "revert_email",
        GetUser = "get_user",
        ListUsers = "list_users",
        ListUserSessions = "list_user_sessions",
        EndUserSessions = "end_user_sessions",
        SuspendUser = "suspend_user",
        RestoreUser = "restore_user",
        SendPasswordReset = "send_password_reset",
        InvalidatePassword = "invalidate_password",
        UnlockUser = "unlock_user",
        SetRoles = "set_roles",
        DeleteUser = "delete_user",
        ImportUsers = "import_users",
        ExportUsers = "export_users",
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
        MissingScope = "missing_scope",
        PlaintextConnection = "plaintext_connection",
        InvalidArgument = "invalid_argument",
        InvalidToken = "invalid_token",
        Overloaded = "overloaded",
        DeadlineExceeded = "deadline_exceeded",
        Abandoned = "abandoned",
        UnknownMailRequest = "unknown_mail_request",
        EmailNotVerified = "email_not_verified",
        AccountSuspended = "account_suspended",
        VersionConflict = "version_conflict",
        Fault = "fault",
    }
}

impl Event {
    /// Whether only an internal service with the right to administrate has lines of it.
    pub const fn is_administration(self) -> bool {
        matches!(
            self,
            Self::GetUser
                | Self::ListUsers
                | Self::ListUserSessions
                | Self::EndUserSessions
                | Self::SuspendUser
                | Self::RestoreUser
                | Self::SendPasswordReset
                | Self::InvalidatePassword
                | Self::UnlockUser
                | Self::SetRoles
                | Self::DeleteUser
                | Self::ImportUsers
                | Self::ExportUsers
        )
    }
}

impl Reason {
    /// Whether anybody can cause the line.
    const fn is_of_strangers(self) -> bool {
        matches!(self, Self::UnknownCaller | Self::MissingScope)
    }

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

/// The origin of a call, the same in all its lines.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The name of the internal service that called.
    pub caller: Option<String>,
    /// The person for whom an administrating service calls.
    pub person: Option<Person>,
    /// Of the client's network address.
    pub address: Option<Fingerprint>,
    /// Of the e-mail address in the message. Lines that name the user do not show it.
    pub email: Option<Fingerprint>,
}

impl Context {
    /// The values of `caller` and `actor`.
    pub fn callers(&self) -> (Option<&str>, Option<&str>) {
        let person = self.person.as_ref();
        (self.caller.as_deref(), person.map(Person::as_str))
    }
}

/// A line, written by [`Audit::ok`] or [`Audit::failed`].
#[derive(Clone, Copy)]
#[must_use]
pub struct Audit<'a> {
    event: Event,
    context: &'a Context,
    user_id: Option<UserId>,
    session_id: Option<SessionId>,
    mail_request_id: Option<MailRequestId>,
    /// What an administrator gave as the reason of the act, or what is special about it.
    given_reason: Option<&'a str>,
}

impl<'a> Audit<'a> {
    pub const fn of(event: Event, context: &'a Context) -> Self {
        Self {
            event,
            context,
            user_id: None,
            session_id: None,
            mail_request_id: None,
            given_reason: None,
        }
    }

    pub fn because(self, reason: &'a str) -> Self {
        let given_reason = Some(reason);
        Self {
            given_reason,
            ..self
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

    /// The mail that the act has asked for or claimed.
    pub fn mail(self, id: impl Into<Option<MailRequestId>>) -> Self {
        let mail_request_id = id.into();
        Self {
            mail_request_id,
            ..self
        }
    }

    pub fn ok(self) {
        let (event, outcome) = (self.event.word(), "ok");
        let [user_id, email_hash, session_id, address_hash] = self.ids();
        let mail_request_id = self.mail_request_id.map(display);
        let (caller, actor) = self.context.callers();
        let reason = self.given_reason;
        info!(target: TARGET, event, outcome, reason,
            user_id, email_hash, session_id, mail_request_id, caller, actor, address_hash);
    }

    pub fn failed(self, reason: Reason) {
        let by_administrator = self.event.is_administration() && !reason.is_of_strangers();
        let in_full = reason.is_never_summed_up() || by_administrator;
        let (event, outcome, reason) = (self.event.word(), FAILED, reason.word());
        let [user_id, email_hash, session_id, address_hash] = self.ids();
        let mail_request_id = self.mail_request_id.map(display);
        let (caller, actor) = self.context.callers();
        if in_full {
            info!(target: TARGET, event, outcome, reason,
                user_id, email_hash, session_id, mail_request_id, caller, actor, address_hash);
        } else {
            info!(name: LIMITED, target: TARGET, event, outcome, reason,
                user_id, email_hash, session_id, mail_request_id, caller, actor, address_hash);
        }
    }

    /// The user, or else the e-mail address; the session; the client's address.
    fn ids(&self) -> [Option<DisplayValue<&dyn Display>>; 4] {
        let email = self.context.email.as_ref();
        let email = email.filter(|_| self.user_id.is_none());
        let user_id = self.user_id.as_ref().map(|id| id as &dyn Display);
        let session_id = self.session_id.as_ref().map(|id| id as &dyn Display);
        let address = self.context.address.as_ref().map(|it| it as &dyn Display);
        [
            user_id,
            email.map(|it| it as &dyn Display),
            session_id,
            address,
        ]
        .map(|id| id.map(display))
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
