//! Refresh: a refresh token in, the next pair of tokens out.
//!
//! The current token is rotated by one compare-and-set statement. A client that lost the
//! reply, or whose two tabs raced, presents the previous token: within the retry window it
//! gets the *same* successor, so the user stays logged in and the session never forks. Any
//! other secret of the session means that a rotated token came back, as after a theft: the
//! session ends (RFC 9700, section 4.14.2).

use super::{Auth, Call, Error, Fault, metrics::RefreshOutcome, session::TokenPair};
use crate::{
    db::Rotation,
    model::{Presented, RefreshToken, Session, SessionEndReason, Timestamp},
    telemetry::audit::{self, Audit, Reason},
};

/// The meaning of a presented refresh token.
enum Refreshed {
    /// The current token, replaced by its successor.
    Rotated(Session, RefreshToken),
    /// The previous token within the retry window, with the successor that it already has.
    Retried(Session, RefreshToken),
    /// An older token: another party has used it.
    Reused(Session),
    /// The token belongs to no live session.
    Unknown,
}

impl Refreshed {
    const fn outcome(&self) -> RefreshOutcome {
        match self {
            Self::Rotated(..) => RefreshOutcome::Rotated,
            Self::Retried(..) => RefreshOutcome::Retried,
            Self::Reused(_) => RefreshOutcome::Reused,
            Self::Unknown => RefreshOutcome::Unknown,
        }
    }
}

impl Auth {
    /// Replaces a refresh token by the next pair of tokens.
    pub async fn refresh(&self, token: RefreshToken, call: &Call) -> Result<TokenPair, Error> {
        let now = self.clock.now();
        let refreshed = self.rotate(&token, now).await?;
        self.metrics.refreshed(refreshed.outcome());
        match refreshed {
            Refreshed::Rotated(session, successor) | Refreshed::Retried(session, successor) => {
                Ok(TokenPair {
                    access_token: self.issuer.issue(session.user_id, session.id, now)?,
                    refresh_token: successor,
                    refresh_token_expires_at: session.expires_at.min(session.ends_at),
                })
            }
            Refreshed::Reused(session) => {
                let reason = SessionEndReason::Reuse;
                if self.revoke(&session, reason, now, call).await? {
                    Audit::of(audit::Event::Refresh)
                        .user(session.user_id)
                        .session(session.id)
                        .failed(Reason::Reused);
                }
                Err(Error::InvalidToken)
            }
            Refreshed::Unknown => Err(Error::InvalidToken),
        }
    }

    /// Rotates the token, or finds out why the database did not.
    async fn rotate(&self, token: &RefreshToken, now: Timestamp) -> Result<Refreshed, Error> {
        let successor = token.generate_successor()?;
        let rotation = Rotation {
            handle_hash: token.handle_hash(),
            token_hash: token.secret_hash(),
            new_token_hash: successor.secret_hash(),
            sealed_successor: token.seal(&successor),
            now,
            expires_at: now + self.lifetimes.refresh_token,
        };
        if let Some(session) = self.db.rotate(&rotation).await? {
            return Ok(Refreshed::Rotated(session, successor));
        }
        let Some(session) = self.db.find_session(&rotation.handle_hash).await? else {
            return Ok(Refreshed::Unknown);
        };
        Ok(
            match session.judge(token, &successor, now, self.lifetimes.retry_window) {
                Presented::Current => Refreshed::Rotated(session, successor),
                Presented::Previous { successor } => {
                    let successor = successor.ok_or(Fault::Corrupt("sealed successor"))?;
                    Refreshed::Retried(session, successor)
                }
                Presented::Reused => Refreshed::Reused(session),
                Presented::Ended => Refreshed::Unknown,
            },
        )
    }
}
