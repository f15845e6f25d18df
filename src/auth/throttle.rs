//! The counters of the throttle that an attempt raises. They are stored by [`db`](crate::db).
//!
//! A wrong password counts for the account (also for an unknown e-mail), for the caller's
//! address, and for the pair of both. Without an address it counts for the account, and for
//! the pair of the account and no address. A malformed e-mail counts for the address only.
//!
//! After a login the pair is known for a while: failures of others on the account, and its
//! daily limit, do not hold back the owner at that address.

use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::{Auth, Call, Error};
use crate::{
    db::{Admission, Attempt, Count, Counted, Key, Settlement},
    model::{ClientAddress, Credentials, Email, ThrottleLimits, Timestamp},
    telemetry::{
        Causes,
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

    /// Takes an attempt back if its hash was refused.
    pub(super) async fn take_back_if_overloaded<T>(
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
pub(super) fn guess<'a>(
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

/// A registration: it counts for the address even if it succeeds.
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

/// The key of a counter: a hash, so that the table shows neither e-mail nor network
/// addresses. An e-mail address contains no NUL, so NUL separates the parts.
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
