//! The signed-in user that makes a call.
//!
//! The caller is the user in the access token, if the token's session is live. The database
//! is asked at each call, so a token is refused as soon as its session has ended. Acts that
//! take a password or end sessions check the session again once they hold the user's row:
//! during the hash the session may have ended, or the password may have changed.

use super::{Auth, Call, Error};
use crate::{
    db::Outcome,
    model::{Account, SessionId, Timestamp},
    telemetry::audit::{self, Audit, Reason},
};

pub struct Caller {
    pub account: Account,
    pub session_id: SessionId,
    /// The absolute end of the session.
    pub session_ends_at: Timestamp,
}

impl Auth {
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        let now = self.clock.now();
        let bearer = self.issuer.verify(token, now);
        let (user_id, session_id) = bearer.ok_or(Error::InvalidToken)?;
        let account = self.db.find_account(user_id, session_id, now).await?;
        let (account, session_ends_at) = account.ok_or(Error::SessionEnded)?;
        Ok(Caller {
            account,
            session_id,
            session_ends_at,
        })
    }

    /// The address of a change that the caller has asked for and nobody has confirmed yet.
    pub async fn pending_email(&self, caller: &Caller) -> Result<Option<String>, Error> {
        let user_id = caller.account.user_id;
        Ok(self.db.pending_email(user_id, self.clock.now()).await?)
    }
}

impl Caller {
    pub(super) fn audit<'c>(&self, event: audit::Event, call: &'c Call) -> Audit<'c> {
        call.audit(event)
            .user(self.account.user_id)
            .session(self.session_id)
    }
}

pub(super) fn done<T>(outcome: Outcome<T>, audit: Audit<'_>) -> Result<T, Error> {
    match outcome {
        Outcome::Done(result) => Ok(result),
        Outcome::PasswordChanged => {
            audit.failed(Reason::PasswordChanged);
            Err(Error::InvalidCredentials)
        }
        Outcome::SessionEnded => Err(Error::SessionEnded),
    }
}
