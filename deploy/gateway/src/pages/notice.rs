//! A sentence that the next page shows once, after an act. The cookie holds its word, not its text.

use axum::http::HeaderMap;

use crate::cookies;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    LoggedOut,
    LoggedOutHere,
    SessionLost,
    SessionEnded,
    OthersEnded,
    PasswordChanged,
    PasswordReset,
    MailSent,
    AccountDeleted,
}

impl Notice {
    const ALL: [Self; 9] = [
        Self::LoggedOut,
        Self::LoggedOutHere,
        Self::SessionLost,
        Self::SessionEnded,
        Self::OthersEnded,
        Self::PasswordChanged,
        Self::PasswordReset,
        Self::MailSent,
        Self::AccountDeleted,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged-out",
            Self::LoggedOutHere => "logged-out-here",
            Self::SessionLost => "session-lost",
            Self::SessionEnded => "session-ended",
            Self::OthersEnded => "others-ended",
            Self::PasswordChanged => "password-changed",
            Self::PasswordReset => "password-reset",
            Self::MailSent => "mail-sent",
            Self::AccountDeleted => "account-deleted",
        }
    }

    pub const fn text(self) -> &'static str {
        match self {
            Self::LoggedOut => "You are logged out.",
            Self::LoggedOutHere => {
                "This browser is logged out. The session itself could not be ended now: log in later, \
                 and end it on the page of your account."
            }
            Self::SessionLost => "Your session has ended. Log in again.",
            Self::SessionEnded => "The session has ended.",
            Self::OthersEnded => "All other sessions have ended.",
            Self::PasswordChanged => {
                "Your password is changed. All your other sessions have ended."
            }
            Self::PasswordReset => "Your new password is set. All earlier sessions have ended.",
            Self::MailSent => "We have sent you a mail. Open the link in it.",
            Self::AccountDeleted => "Your account is deleted.",
        }
    }

    /// The one that an earlier answer left.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let word = cookies::NOTICE.get(headers)?;
        Self::ALL.into_iter().find(|notice| notice.word() == word)
    }
}
