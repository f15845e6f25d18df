//! A session that is about to start.

use super::{Error, Issuer, StartedSession, TokenPair};
use crate::{
    config::Lifetimes,
    db::NewSession,
    model::{DeviceName, RefreshToken, SessionId, Timestamp, UserId},
};

/// A session with all that its row and its reply need. Made before the row is written:
/// after the commit nothing may fail any more.
pub(super) struct SessionDraft {
    id: SessionId,
    user_id: UserId,
    device_name: Option<DeviceName>,
    created_at: Timestamp,
    expires_at: Timestamp,
    ends_at: Timestamp,
    handle_hash: [u8; 32],
    token_hash: [u8; 32],
    tokens: TokenPair,
}

impl SessionDraft {
    pub(super) fn new(
        user_id: UserId,
        device_name: Option<DeviceName>,
        now: Timestamp,
        lifetimes: Lifetimes,
        issuer: &Issuer,
    ) -> Result<Self, Error> {
        let id = SessionId::new(now);
        let (expires_at, ends_at) = (now + lifetimes.refresh_token, now + lifetimes.session);
        let refresh_token = RefreshToken::generate()?;
        Ok(Self {
            id,
            user_id,
            device_name,
            created_at: now,
            expires_at,
            ends_at,
            handle_hash: refresh_token.handle_hash(),
            token_hash: refresh_token.secret_hash(),
            tokens: TokenPair {
                access_token: issuer.issue(user_id, id, now)?,
                refresh_token,
                refresh_token_expires_at: expires_at.min(ends_at),
            },
        })
    }

    /// The session's id.
    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    /// The row, without a usable token.
    pub(super) fn row(&self) -> NewSession<'_> {
        NewSession {
            id: self.id,
            user_id: self.user_id,
            handle_hash: &self.handle_hash,
            token_hash: &self.token_hash,
            device_name: self.device_name.as_ref().map(DeviceName::as_str),
            created_at: self.created_at,
            expires_at: self.expires_at,
            ends_at: self.ends_at,
        }
    }

    /// The session, once its row is written.
    pub(super) fn started(self) -> StartedSession {
        StartedSession {
            id: self.id,
            tokens: self.tokens,
        }
    }
}
