//! The counters of the throttle that an attempt raises. They are stored by [`db`](crate::db).
//!
//! A wrong password counts for the account (also for an unknown e-mail), for the caller's
//! address, and for the pair of both. Without an address it counts for the account, and for
//! the pair of the account and no address. A malformed e-mail counts for the address only.
//!
//! After a login the pair is known for a while. During that time, wrong passwords from other
//! addresses and the daily limit of the account do not block the pair.

use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::{Auth, Call, Error};
use crate::{
    db::{Admission, Attempt, Count, Counted, Settlement},
    model::{ClientAddress, Credentials, Email, Timestamp},
    telemetry::{
        Causes, LIMITED,
        audit::{Audit, Reason},
    },
};

impl Auth {
    /// Counts an attempt and finds the credentials, or refuses after too many attempts.
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

    /// Makes the caller's address known to a new account, as after a login. A failure is
    /// only logged: the next login repeats it.
    pub(super) async fn store_known_device(&self, email: &Email, call: &Call) {
        if call.client_address.is_none() {
            return;
        }
        let attempt = self.password_attempt(Some(email.as_str()), call, self.clock.now());
        let known_until = attempt.now + self.throttle.known_for;
        let succeeded = Settlement::Succeeded { known_until };
        let nothing = Counted::default();
        if let Err(error) = self.db.settle(&attempt, &nothing, succeeded).await {
            let error = Causes(&error);
            warn!(name: LIMITED, %error, "cannot store the known device of a new account");
        }
    }

    /// Takes an attempt back if its hash was refused.
    pub(super) async fn take_back_if_overloaded<T>(
        &self,
        outcome: Result<T, impl Into<Error>>,
        attempt: &Attempt<'_>,
        counted: &Counted,
    ) -> Result<T, Error> {
        let outcome = outcome.map_err(Into::into);
        if matches!(outcome, Err(Error::Overloaded { .. })) {
            let settled = self.db.settle(attempt, counted, Settlement::TakenBack);
            settled.await?;
        }
        outcome
    }

    pub(super) fn password_attempt<'a>(
        &'a self,
        email: Option<&'a str>,
        call: &Call,
        now: Timestamp,
    ) -> Attempt<'a> {
        let (limits, address) = (&self.throttle, call.client_address);
        let account = |email| count("account", email, None, limits.free_per_account);
        let pair = |email| count("pair", email, address, limits.free_per_pair);
        Attempt {
            email,
            account: email.map(account),
            pair: email.map(pair),
            address: address.map(|_| count("address", "", address, limits.free_per_address)),
            now,
            limits,
        }
    }

    /// A registration counts for the address even if it succeeds.
    pub(super) fn registration_attempt<'a>(
        &'a self,
        email: &'a Email,
        call: &Call,
        now: Timestamp,
    ) -> Attempt<'a> {
        let (limits, address) = (&self.throttle, call.client_address);
        let free = limits.registrations_per_address;
        Attempt {
            email: Some(email.as_str()),
            account: None,
            pair: None,
            address: address.map(|_| count("registration", "", address, free)),
            now,
            limits,
        }
    }
}

/// A counter. Its key is a hash, so that the table shows neither e-mail nor network addresses.
/// An e-mail address contains no NUL, so NUL separates the parts.
fn count(kind: &str, email: &str, address: Option<ClientAddress>, free: u32) -> Count {
    let mut hash = Sha256::new_with_prefix(kind);
    hash.update([0]);
    hash.update(email);
    hash.update([0]);
    if let Some(address) = &address {
        hash.update(address.as_bytes());
    }
    let key = hash.finalize().into();
    Count { key, free }
}
