//! Verifies access tokens of the auth service (JWT, RFC 7519 and RFC 9068).
//!
//! A gateway tells an [`Edge`] what `EdgeService.Watch` sends: the keys and the revocations. The
//! `Edge` then says whether a token was issued by the service, is valid now, and belongs to a
//! session that has not ended since.
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
    /// It is no access token of the service, or its signature is wrong.
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
    /// Has no keys, so it refuses every token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

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

    /// Drops the revocations that no valid token can need, and gives their memory back. Takes
    /// milliseconds for a million of them: call it about once a minute.
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
