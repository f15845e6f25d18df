use super::{Auth, Call, Error};
use crate::{
    db::Settlement,
    model::{Timestamp, UserId},
    password::{NewPassword, Password, PasswordHash, Priority, Request, Verified},
    telemetry::audit::{Audit, Reason},
};

/// A password that matched, its hash and its account.
pub(super) struct Checked<'p> {
    pub(super) user_id: UserId,
    pub(super) hash: PasswordHash,
    /// The hash as the database keeps it.
    pub(super) stored_hash: String,
    /// Identifies the password among those of the account.
    pub(super) changed_at: Timestamp,
    pub(super) verified: Verified<'p>,
}

impl Auth {
    /// Checks an account's password. A wrong password and an unknown user (`email` is
    /// `None` or without account) cost the same, count the same and get the same error.
    ///
    /// The attempt is counted before the hash, and settled after a success. A cancelled call
    /// stays counted; otherwise a client could cancel its guesses. If the hasher refuses the
    /// attempt, it is taken back. A failure is audited here.
    pub(super) async fn check_password<'p>(
        &self,
        email: Option<&str>,
        password: &'p Password,
        priority: Priority,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<Checked<'p>, Error> {
        // Refuse before the first statement if the hash would be refused anyway.
        self.hasher.check_capacity(priority, call.deadline)?;
        let attempt = self.password_attempt(email, call, self.clock.now());
        let (counted, credentials) = self.admit(&attempt, audit).await?;
        let user_id = credentials.as_ref().map(|found| found.user_id);
        let hash = (credentials.as_ref())
            .map(|found| self.open_hash(found))
            .transpose()?;
        let request = call.hash(priority);
        let verified = self.hasher.verify(password, hash.as_ref(), request);
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
            stored_hash: found.password_hash,
            changed_at: found.password_changed_at,
            verified,
        })
    }

    pub(super) async fn check_policy(
        &self,
        field: &'static str,
        password: Password,
        email: &str,
        request: &Request,
    ) -> Result<NewPassword, Error> {
        let checked = self.policy.check(password, email, request).await?;
        checked.map_err(|weakness| Error::invalid(field, weakness.to_string()))
    }
}
