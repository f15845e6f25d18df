//! Slows down guessing: what an attempt counts for, and every use of an account's password.
//!
//! A wrong password counts for the account (an unknown e-mail is one too), for the caller's
//! address, and for the pair of both. Without an address it counts for the account, and for
//! the pair of the account and nobody. A malformed e-mail is no account: it counts for the
//! address only. The counts themselves are in [`db`](crate::db).
//!
//! Whoever logged in lately from an address is not held back there by what others do to the
//! account, nor by its bound of a day: who guesses elsewhere locks no owner out.

use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::{Auth, Call, Error, parse_hash};
use crate::{
    db::{Admission, Attempt, Count, Counted, Key, Settlement},
    model::{ClientAddress, Credentials, Email, ThrottleLimits, Timestamp, UserId},
    password::{Password, PasswordHash, Verified},
    telemetry::{
        Causes,
        audit::{Audit, Reason},
    },
};

/// A password that is an account's.
pub(super) struct Proof<'p> {
    /// Whose.
    pub(super) user_id: UserId,
    /// What it matched.
    pub(super) hash: PasswordHash,
    /// Which password of the account it is.
    pub(super) changed_at: Timestamp,
    /// The password.
    pub(super) verified: Verified<'p>,
}

impl Auth {
    /// Checks an account's password: the only way for every call that takes one. A wrong
    /// password and an unknown user cost the same, count the same and get the same answer.
    ///
    /// A failure is audited here.
    ///
    /// A call that is given up stays counted, or giving up would make guesses free; one that
    /// never came to a hash does not.
    pub(super) async fn prove<'p>(
        &self,
        email: Option<&str>,
        password: &'p Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<Proof<'p>, Error> {
        // A hash that would be refused anyway costs the database nothing.
        self.hasher.check_room(call.deadline)?;
        let attempt = guess(&self.throttle, email, call.client_address, self.clock.now());
        let (counted, credentials) = self.admit(&attempt, audit).await?;
        let user_id = credentials.as_ref().map(|found| found.user_id);
        let hash = (credentials.as_ref())
            .map(|found| parse_hash(&found.password_hash))
            .transpose()?;
        let verified = self.hasher.verify(password, hash.as_ref(), call.deadline);
        let verified = self
            .unless_overloaded(verified.await, &attempt, &counted)
            .await?;
        let (Some(verified), Some(found), Some(hash)) = (verified, credentials, hash) else {
            let reason = user_id.map_or(Reason::UnknownUser, |_| Reason::WrongPassword);
            audit.user(user_id).failed(reason);
            return Err(Error::InvalidCredentials);
        };
        let known_until = attempt.now + self.throttle.known_for;
        let succeeded = Settlement::Succeeded { known_until };
        self.db.settle(&attempt, &counted, succeeded).await?;
        Ok(Proof {
            user_id: found.user_id,
            hash,
            changed_at: found.password_changed_at,
            verified,
        })
    }

    /// Counts an attempt and looks up the credentials, or refuses because there were too many.
    pub(super) async fn admit(
        &self,
        attempt: &Attempt<'_>,
        audit: Audit<'_>,
    ) -> Result<(Counted, Option<Credentials>), Error> {
        match self.db.admit(attempt).await? {
            Admission::Admitted(counted, credentials) => Ok((counted, credentials)),
            Admission::Refused { until } => {
                let retry_after = until.since(attempt.now);
                self.metrics.throttled.inc();
                audit.failed(Reason::Throttled);
                Err(Error::TooManyAttempts { retry_after })
            }
        }
    }

    /// Notes that the owner of an account was let in, by registering. That it fails is no
    /// reason to refuse: the next login notes it.
    pub(super) async fn know_owner(&self, email: &Email, call: &Call) {
        if call.client_address.is_none() {
            return;
        }
        let email = Some(email.as_str());
        let attempt = guess(&self.throttle, email, call.client_address, self.clock.now());
        let known_until = attempt.now + self.throttle.known_for;
        let succeeded = Settlement::Succeeded { known_until };
        let nothing = Counted::default();
        if let Err(error) = self.db.settle(&attempt, &nothing, succeeded).await {
            warn!(error = %Causes(&error), "cannot note where an account was registered");
        }
    }

    /// Takes an attempt back if it never came to a hash.
    pub(super) async fn unless_overloaded<T>(
        &self,
        outcome: Result<T, impl Into<Error>>,
        attempt: &Attempt<'_>,
        counted: &Counted,
    ) -> Result<T, Error> {
        let outcome = outcome.map_err(Into::into);
        if matches!(outcome, Err(Error::Overloaded { .. })) {
            let taken_back = Settlement::TakenBack;
            self.db.settle(attempt, counted, taken_back).await?;
        }
        outcome
    }
}

/// An attempt at an account's password.
fn guess<'a>(
    limits: &'a ThrottleLimits,
    email: Option<&'a str>,
    address: Option<ClientAddress>,
    now: Timestamp,
) -> Attempt<'a> {
    let count = |kind, email, address, free| Count {
        key: key(kind, email, address),
        free,
    };
    Attempt {
        email,
        account: email.map(|email| count("account", email, None, limits.free_per_account)),
        pair: email.map(|email| count("pair", email, address, limits.free_per_pair)),
        address: address.map(|_| count("address", "", address, limits.free_per_address)),
        now,
        limits,
    }
}

/// A registration: each counts for the address, also one that succeeds.
pub(super) fn registration<'a>(
    limits: &'a ThrottleLimits,
    email: &'a Email,
    address: Option<ClientAddress>,
    now: Timestamp,
) -> Attempt<'a> {
    Attempt {
        email: Some(email.as_str()),
        account: None,
        pair: None,
        address: address.map(|_| Count {
            key: key("registration", "", address),
            free: limits.registrations_per_address,
        }),
        now,
        limits,
    }
}

/// Hashed, so that a look at the table shows no address of either sort. An e-mail address
/// has no NUL.
fn key(kind: &str, email: &str, address: Option<ClientAddress>) -> Key {
    let mut hash = Sha256::new_with_prefix(kind);
    hash.update([0]);
    hash.update(email);
    hash.update([0]);
    if let Some(address) = &address {
        hash.update(address.as_bytes());
    }
    hash.finalize().into()
}
