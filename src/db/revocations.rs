//! Acts that end sessions before their time: a logout, reuse, the user's wish, a new password,
//! the end of the account. (A reset of the password is in `mail`.) One transaction ends
//! the sessions and writes the events and the revocations, which gateways receive.
//!
//! Each transaction updates the user's row before it reads or updates sessions. While it holds
//! that row, no other transaction ends a session of the user or starts one. The sessions that it
//! has read are therefore still the same at the commit.

mod account;
mod insert;
mod recorded;
mod sessions;
mod steps;

pub use self::account::NewHash;
pub(super) use self::steps::Steps;
use super::Error;

/// The result of an act on an account.
pub enum Outcome<T> {
    Done(T),
    /// Nothing was changed: the account is gone, or its password is no longer the one that the
    /// caller has shown.
    PasswordChanged,
    /// Nothing was changed: the caller's session has ended.
    SessionEnded,
}

/// Why a transaction was rolled back.
pub(super) enum Undone {
    PasswordChanged,
    SessionEnded,
    Failed(Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn outcome<T>(result: Result<T, Undone>) -> Result<Outcome<T>, Error> {
    match result {
        Ok(done) => Ok(Outcome::Done(done)),
        Err(Undone::PasswordChanged) => Ok(Outcome::PasswordChanged),
        Err(Undone::SessionEnded) => Ok(Outcome::SessionEnded),
        Err(Undone::Failed(error)) => Err(error),
    }
}
