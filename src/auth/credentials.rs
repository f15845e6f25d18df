//! The password checks. Every call with a current password uses [`Auth::check_password`],
//! every call with a new one [`Auth::check_policy`].

use super::{Auth, Call, Error, Fault, throttle::guess};
use crate::{
    db::Settlement,
    model::{Timestamp, UserId},
    password::{NewPassword, Password, PasswordHash, Verified},
    telemetry::audit::{Audit, Reason},
};

/// A password that matched, and the account that it belongs to.
pub(super) struct Checked<'p> {
    pub(super) user_id: UserId,
    /// The stored hash that it matched.
    pub(super) hash: PasswordHash,
    /// Identifies the password among those of the account.
    pub(super) changed_at: Timestamp,
    pub(super) verified: Verified<'p>,
}

impl Auth {
    /// Checks an account's password. A wrong password and an unknown user (`email` is
    /// `None` or without account) cost the same, count the same and get the same error.
    ///
    /// The attempt is counted before the hash and taken back after a success. A cancelled
    /// call stays counted, otherwise cancelling would make guesses free. An attempt that was
    /// refused before its hash is taken back. A failure is audited here.
    pub(super) async fn check_password<'p>(
        &self,
        email: Option<&str>,
        password: &'p Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<Checked<'p>, Error> {
        // Refuse before the first statement if the hash would be refused anyway.
        self.hasher.check_capacity(call.deadline)?;
        let attempt = guess(&self.throttle, email, call.client_address, self.clock.now());
        let (counted, credentials) = self.admit(&attempt, audit).await?;
        let user_id = credentials.as_ref().map(|found| found.user_id);
        let hash = (credentials.as_ref())
            .map(|found| parse_hash(&found.password_hash))
            .transpose()?;
        let verified = self.hasher.verify(password, hash.as_ref(), call.deadline);
        let verified = self
            .take_back_if_overloaded(verified.await, &attempt, &counted)
            .await?;
        let (Some(verified), Some(found), Some(hash)) = (verified, credentials, hash) else {
            let reason = user_id.map_or(Reason::UnknownUser, |_| Reason::WrongPassword);
            audit.user(user_id).failed(reason);
            return Err(Error::InvalidCredentials);
        };
        let known_until = attempt.now + self.throttle.known_for;
        let succeeded = Settlement::Succeeded { known_until };
        self.db.settle(&attempt, &counted, succeeded).await?;
        Ok(Checked {
            user_id: found.user_id,
            hash,
            changed_at: found.password_changed_at,
            verified,
        })
    }

    /// Applies the password policy to a new password. The error names `field`.
    pub(super) async fn check_policy(
        &self,
        field: &'static str,
        password: Password,
        email: &str,
    ) -> Result<NewPassword, Error> {
        let checked = self.policy.check(password, email).await?;
        checked.map_err(|weakness| Error::InvalidArgument {
            field,
            problem: weakness.to_string(),
        })
    }
}

fn parse_hash(text: &str) -> Result<PasswordHash, Error> {
    PasswordHash::parse(text).ok_or_else(|| Fault::Corrupt("password hash").into())
}
