//! What can go wrong in a use case, in the words of the contract. `grpc::status` maps
//! each to one code and reason.

use std::time::Duration;

use crate::{
    db,
    password::{BlocklistError, HashError, PolicyError},
};

/// Why a call was not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is missing or malformed.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The field's name in the proto.
        field: &'static str,
        /// What is wrong with it; never its value.
        problem: String,
    },
    /// The address has an account already.
    #[error("the e-mail address is already registered")]
    EmailTaken,
    /// Wrong password or unknown user: the caller must not learn which.
    #[error("wrong e-mail address or password")]
    InvalidCredentials,
    /// A token that is malformed, unknown, expired, revoked or reused.
    #[error("the token is not valid")]
    InvalidToken,
    /// The caller is not an authorised internal service.
    #[error("only authorised internal services may call this")]
    PermissionDenied,
    /// Too many wrong passwords for the account or from the caller's address, or too many
    /// registrations from there.
    #[error("too many attempts, try again later")]
    TooManyAttempts {
        /// When the next one is let in.
        retry_after: Duration,
    },
    /// No room to hash a password in time.
    #[error("too busy, try again later")]
    Overloaded {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The call's deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// Ours to mend. The caller learns nothing but this.
    #[error("internal error")]
    Internal(#[source] Fault),
}

/// A fault of the service or of what it stands on, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The list of leaked passwords.
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
    /// The hasher's threads are gone.
    #[error("the password hasher has stopped")]
    HasherStopped,
    /// A row holds what this service never writes.
    #[error("the database holds a malformed {0}")]
    Corrupt(&'static str),
    /// The operating system has no randomness for us.
    #[error("no randomness from the operating system")]
    Randomness(#[from] getrandom::Error),
    /// A token could not be signed.
    #[error("cannot sign a token")]
    Signing(#[from] jsonwebtoken::errors::Error),
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
