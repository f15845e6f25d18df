//! Sessions, and what a presented refresh token means for its session.

use std::time::Duration;

use super::{RefreshToken, SessionId, Timestamp, UserId};

/// The most sessions that one user has. An act that ends all of them is one transaction, which
/// must fit into the time of one call.
pub const MAX_SESSIONS: i64 = 1000;

/// The most sessions that are listed. One takes at most 500 bytes of a response of 64 KiB.
pub const MAX_LISTED_SESSIONS: i64 = 100;

/// The most old sessions that one login ends, so that it stays short for a user who has far too
/// many.
pub const MAX_SESSIONS_ENDED_BY_LOGIN: i64 = 100;

/// One login on one device.
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    /// SHA-256 of the current token's secret.
    pub token_hash: Vec<u8>,
    /// SHA-256 of the secret before.
    pub previous_token_hash: Option<Vec<u8>>,
    /// The current secret, sealed with the one before.
    pub sealed_successor: Option<Vec<u8>>,
    /// When the token was exchanged last, or the start.
    pub rotated_at: Timestamp,
    /// The sliding end.
    pub expires_at: Timestamp,
    /// The absolute end.
    pub ends_at: Timestamp,
    /// When it was ended early.
    pub revoked_at: Option<Timestamp>,
}

/// A live session as its user sees it.
pub struct LiveSession {
    pub id: SessionId,
    pub device_name: Option<String>,
    pub created_at: Timestamp,
    /// When the token was exchanged last, or the start.
    pub rotated_at: Timestamp,
    /// The earlier of the sliding and the absolute end.
    pub expires_at: Timestamp,
}

/// What a refresh token that could not be exchanged is to the session that its handle names.
pub enum Presented {
    /// The current one: this very call exchanged it, and only the database's answer was lost.
    Current,
    /// The one before, within the retry window: a lost reply or a race. The successor stays.
    Previous {
        /// The session's token; `None` if the row does not hold what this service writes.
        successor: Option<RefreshToken>,
    },
    /// An older one: somebody else has used it.
    Reused,
    /// The session has ended.
    Ended,
}

impl Session {
    /// Whether it has neither expired nor been ended.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at && now < self.ends_at
    }

    /// Judges a token with this session's handle, which was to be exchanged for `successor`.
    #[must_use]
    pub fn judge(
        &self,
        token: &RefreshToken,
        successor: &RefreshToken,
        now: Timestamp,
        retry_window: Duration,
    ) -> Presented {
        if !self.is_live(now) {
            return Presented::Ended;
        }
        if successor.matches(&self.token_hash) {
            return Presented::Current;
        }
        let previous = self.previous_token_hash.as_deref();
        let is_previous = previous.is_some_and(|hash| token.matches(hash));
        let is_in_time = !retry_window.is_zero() && now.since(self.rotated_at) <= retry_window;
        if !is_previous || !is_in_time {
            return Presented::Reused;
        }
        let sealed = self.sealed_successor.as_deref();
        let successor = sealed.and_then(|sealed| token.unseal(sealed));
        Presented::Previous {
            successor: successor.filter(|successor| successor.matches(&self.token_hash)),
        }
    }
}
