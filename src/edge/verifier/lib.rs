//! Verifies access tokens of the auth service (JWT, RFC 7519 and RFC 9068).
//!
//! A gateway passes to an [`Edge`] what `EdgeService.Watch` sends: the keys and the revocations.
//! The `Edge` then decides whether a token was issued by the service, is valid now, and belongs to
//! a session that has not ended since.
//!
//! The crate is pure: the caller gives the time, and nothing here waits, reads or logs.

mod keys;
mod revocations;
mod token;

use std::time::SystemTime;

use uuid::Uuid;

pub use self::keys::{Key, KeySet};
use self::revocations::Revocations;

/// What a gateway knows: the keys, and which sessions have ended while their tokens live.
///
/// The default has no keys, so it refuses every token.
#[derive(Default)]
pub struct Edge {
    keys: KeySet,
    revocations: Revocations,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub user_id: Uuid,
    pub session_id: Uuid,
    /// Whole seconds, as `expires_at`.
    pub issued_at: SystemTime,
    pub expires_at: SystemTime,
    /// `None` if the service does not verify addresses.
    pub email_verified: Option<bool>,
    pub roles: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not an access token of the service, or its signature is wrong.
    Malformed,
    /// No key has the id in the header. Either the token is forged, or the keys are old.
    UnknownKey,
    /// The signature is right, but the token is for another issuer or audience, from the future,
    /// or lives too long.
    Foreign,
    Expired,
    /// Its session has ended.
    Revoked,
}

impl Edge {
    /// Replaces the keys.
    pub fn set_keys(&mut self, keys: KeySet) {
        self.keys = keys;
    }

    /// No token of this session is accepted. The last one expires at `until`.
    pub fn revoke_session(&mut self, session: Uuid, until: SystemTime) {
        self.revocations.add_session(session, until);
    }

    /// No token of this user is accepted that was issued before `issued_before`. The last one
    /// expires at `until`.
    pub fn revoke_user(&mut self, user: Uuid, issued_before: SystemTime, until: SystemTime) {
        self.revocations.add_user(user, issued_before, until);
    }

    /// Drops the revocations that no valid token can need, and gives their memory back. It looks at
    /// every revocation: call it about once a minute.
    ///
    /// A dropped revocation does not come again, so `now` must not be ahead of the service by more
    /// than a minute. The wall clock alone cannot promise that. Use the earlier of the wall clock
    /// and an earlier reading of it plus the time since then by the monotonic clock.
    pub fn forget_expired(&mut self, now: SystemTime) {
        self.revocations.forget_expired(now);
    }

    /// How many revocations it holds.
    #[must_use]
    pub fn revocations(&self) -> usize {
        self.revocations.len()
    }

    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, Refusal> {
        let claims = self.keys.verify(token, now)?;
        if self.revocations.include(&claims) {
            return Err(Refusal::Revoked);
        }
        Ok(claims)
    }
}

/// Whole seconds since 1970, rounded down. Earlier times count as 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
