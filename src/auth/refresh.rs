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
    model::{Presented, RefreshToken, Refreshable, Retry, SessionEndReason, Timestamp},
    telemetry::audit::{Event, Reason},
};

impl Auth {
    pub async fn refresh(&self, token: RefreshToken, call: &Call) -> Result<TokenPair, Error> {
        let now = self.clock.now();
        let form = self.form(now);
        let successor = token.generate_successor(form)?;
        let rotation = Rotation {
            handle_hash: token.handle_hash(),
            token_hash: token.secret_hash(),
            new_token_hash: successor.secret_hash(),
            sealed_successor: token.seal(&successor, form),
            now,
            expires_at: now + self.lifetimes.refresh_token,
            access_tokens_expire_at: self.issuer.expiry(now) + self.lifetimes.retry_window,
        };
        if let Some(found) = self.db.rotate(&rotation).await? {
            self.refuse_suspended(&found, now, call).await?;
            return self.next_tokens(RefreshOutcome::Rotated, &found, successor, now);
        }
        let found = self.db.find_refreshable(&rotation.handle_hash, now);
        let Some(found) = found.await? else {
            self.metrics.refreshed(RefreshOutcome::Unknown);
            return Err(Error::InvalidToken);
        };
        self.refuse_suspended(&found, now, call).await?;
        let session = &found.session;
        let window = self.lifetimes.retry_window;
        let retry = Retry { now, window };
        match session.check(&token, &successor, self.accepted_forms(now), retry) {
            Presented::Current => self.next_tokens(RefreshOutcome::Rotated, &found, successor, now),
            Presented::Previous { successor } => {
                let successor = successor.ok_or(Fault::Corrupt("sealed successor"))?;
                self.next_tokens(RefreshOutcome::Retried, &found, successor, now)
            }
            Presented::Reused => {
                self.metrics.refreshed(RefreshOutcome::Reused);
                let reason = SessionEndReason::Reuse;
                if self.revoke(session, reason, now, call).await? {
                    call.audit(Event::Refresh)
                        .user(session.user_id)
                        .session(session.id)
                        .failed(Reason::Reused);
                }
                Err(Error::SessionEnded)
            }
            Presented::Ended => {
                self.metrics.refreshed(RefreshOutcome::Unknown);
                Err(Error::SessionEnded)
            }
        }
    }

    /// Ends a session that a replica of an older version has started for a suspended user.
    async fn refuse_suspended(
        &self,
        found: &Refreshable,
        now: Timestamp,
        call: &Call,
    ) -> Result<(), Error> {
        if !found.is_suspended {
            return Ok(());
        }
        self.metrics.refreshed(RefreshOutcome::Unknown);
        let reason = SessionEndReason::Suspended;
        self.revoke(&found.session, reason, now, call).await?;
        Err(Error::SessionEnded)
    }

    fn next_tokens(
        &self,
        outcome: RefreshOutcome,
        found: &Refreshable,
        refresh_token: RefreshToken,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        self.metrics.refreshed(outcome);
        let session = &found.session;
        // A retry writes nothing, so its token must not outlive what the rotation announced.
        let announced = session.access_tokens_expire_at;
        let not_after = announced.map_or(session.ends_at, |at| at.min(session.ends_at));
        let subject = self.subject(session.user_id, session.id, &found.claims);
        Ok(TokenPair {
            access_token: self.issuer.issue(subject, now, not_after)?,
            refresh_token,
            refresh_token_expires_at: session.expires_at.min(session.ends_at),
        })
    }
}
