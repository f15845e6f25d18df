//! Refresh: a refresh token in, the next pair of tokens out.
//!
//! The current token is rotated by one compare-and-set statement. A client that lost the
//! reply, or whose two tabs raced, presents the previous token: within the retry window it
//! gets the *same* successor, so the user stays logged in and the session never forks. Any
//! other secret of the session means that a rotated token came back, as after a theft: the
//! session ends (RFC 9700, section 4.14.2).

use super::{Auth, Call, Error, Fault, session::TokenPair};
use crate::{
    db::Exchange,
    model::{Presented, RefreshToken, Session, SessionEndReason, Timestamp},
    telemetry::audit::{self, Audit, Reason},
};

/// The outcome of a refresh.
enum Rotation {
    /// The current token, replaced by its successor.
    Rotated(Session, RefreshToken),
    /// The previous token within the retry window, with the successor that it already has.
    Retried(Session, RefreshToken),
    /// An older token: another party has used it.
    Reused(Session),
    /// The token belongs to no live session.
    Unknown,
}

impl Rotation {
    /// The label of the metric.
    const fn name(&self) -> &'static str {
        match self {
            Self::Rotated(..) => "rotated",
            Self::Retried(..) => "retried",
            Self::Reused(_) => "reused",
            Self::Unknown => "unknown",
        }
    }
}

impl Auth {
    /// Replaces a refresh token by the next pair of tokens.
    pub async fn refresh(&self, token: RefreshToken, call: &Call) -> Result<TokenPair, Error> {
        let now = self.clock.now();
        let rotation = self.rotate(&token, now).await?;
        self.metrics.refreshed(rotation.name());
        match rotation {
            Rotation::Rotated(session, successor) | Rotation::Retried(session, successor) => {
                Ok(TokenPair {
                    access_token: self.issuer.issue(session.user_id, session.id, now)?,
                    refresh_token: successor,
                    refresh_token_expires_at: session.expires_at.min(session.ends_at),
                })
            }
            Rotation::Reused(session) => {
                let reason = SessionEndReason::Reuse;
                if self.revoke(&session, reason, now, call).await? {
                    Audit::of(audit::Event::Refresh)
                        .user(session.user_id)
                        .session(session.id)
                        .failed(Reason::Reused);
                }
                Err(Error::InvalidToken)
            }
            Rotation::Unknown => Err(Error::InvalidToken),
        }
    }

    /// Rotates the token, or finds out why the database did not.
    async fn rotate(&self, token: &RefreshToken, now: Timestamp) -> Result<Rotation, Error> {
        let successor = token.generate_successor()?;
        let exchange = Exchange {
            handle_hash: token.handle_hash(),
            token_hash: token.secret_hash(),
            new_token_hash: successor.secret_hash(),
            sealed_successor: token.seal(&successor),
            now,
            expires_at: now + self.lifetimes.refresh_token,
        };
        if let Some(session) = self.db.exchange_token(&exchange).await? {
            return Ok(Rotation::Rotated(session, successor));
        }
        let Some(session) = self.db.find_session(&exchange.handle_hash).await? else {
            return Ok(Rotation::Unknown);
        };
        Ok(
            match session.judge(token, &successor, now, self.lifetimes.retry_window) {
                Presented::Current => Rotation::Rotated(session, successor),
                Presented::Previous { successor } => {
                    let successor = successor.ok_or(Fault::Corrupt("sealed successor"))?;
                    Rotation::Retried(session, successor)
                }
                Presented::Reused => Rotation::Reused(session),
                Presented::Ended => Rotation::Unknown,
            },
        )
    }
}
