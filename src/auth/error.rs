//! The errors of the use cases, as the API contract defines them. `grpc::status` maps each one
//! to a code and a reason.

use std::time::Duration;

use crate::{
    db,
    model::Timestamp,
    password::{BlocklistError, HashError, PolicyError},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{field}: {problem}")]
    InvalidArgument {
        field: &'static str,
        /// Never contains the value.
        problem: String,
    },
    #[error("the e-mail address is already registered")]
    EmailTaken,
    /// A wrong password or an unknown user: the caller must not learn which.
    #[error("wrong e-mail address or password")]
    InvalidCredentials,
    /// The password was right.
    #[error("the e-mail address is not verified")]
    EmailNotVerified,
    /// The password was right, or an administrator asked for a reset.
    #[error("the account is suspended")]
    AccountSuspended {
        /// `None`: until it is restored.
        until: Option<Timestamp>,
    },
    /// The token is malformed or unknown, or an access token has expired.
    #[error("the token is not valid")]
    InvalidToken,
    /// The token is genuine, but its session has ended. The caller must not learn that.
    #[error("the token is not valid")]
    SessionEnded,
    /// The request is unknown, expired, used or void.
    #[error("the mail request is unknown, expired, used or void")]
    MailRequestNotFound,
    #[error("there is no such user")]
    UserNotFound,
    #[error("the roles were changed meanwhile: read them again")]
    VersionConflict,
    #[error("only authorised internal services may call this")]
    PermissionDenied,
    #[error(
        "keys are served only over TLS or on loopback; ALLOW_PLAINTEXT_KEYS=true would allow it"
    )]
    PlaintextKeys,
    /// Too many wrong passwords for the account or from the caller's address, or too many
    /// registrations from that address.
    #[error("too many attempts, try again later")]
    TooManyAttempts { retry_after: Duration },
    /// The password cannot be hashed in time.
    #[error("too busy, try again later")]
    Overloaded { retry_after: Duration },
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// A fault of the service. The caller gets no details.
    #[error("internal error")]
    Internal(#[source] Fault),
}

/// A fault of the service or of a system that it uses. It is written to the log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
    #[error("the password hasher has stopped")]
    HasherStopped,
    /// A row holds a value that this service never writes.
    #[error("the database holds a malformed {0}")]
    Corrupt(&'static str),
    #[error("no randomness from the operating system")]
    Randomness(#[from] getrandom::Error),
    #[error("cannot sign a token")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

impl Fault {
    /// For the log.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Blocklist(_) => "blocklist",
            Self::HasherStopped => "hasher_stopped",
            Self::Corrupt(_) => "corrupt_row",
            Self::Randomness(_) => "randomness",
            Self::Signing(_) => "signing",
        }
    }
}

impl Error {
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::InvalidArgument { field, problem }
    }
}

impl From<HashError> for Error {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            HashError::Stopped => Self::Internal(Fault::HasherStopped),
        }
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            PolicyError::Blocklist(error) => Self::Internal(Fault::Blocklist(error)),
        }
    }
}

impl<F: Into<Fault>> From<F> for Error {
    fn from(fault: F) -> Self {
        Self::Internal(fault.into())
    }
}
