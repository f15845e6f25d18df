//! Login: an e-mail address and a password in, a new session with its tokens out.

use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::{Auth, Call, Error, credentials::Checked, session::StartedSession};
use crate::{
    model::{DeviceName, Email, MAX_SESSIONS, SessionEndReason, Timestamp, UserId},
    password::{Password, PasswordHash, Verified},
    telemetry::{
        Causes,
        audit::{self, Audit, Reason},
    },
};

pub struct Login {
    /// `None` for a malformed address, which no account can have.
    pub email: Option<Email>,
    pub password: Password,
    /// The name of the session.
    pub device_name: Option<DeviceName>,
}

pub struct LoggedIn {
    pub user_id: UserId,
    pub session: StartedSession,
}

impl Auth {
    /// Checks the password and starts a session.
    ///
    /// The session is drafted with its tokens before its row is written, so that nothing
    /// can fail after the commit. The row is written only if the account still has the
    /// password that was checked: it may have changed during the hash.
    pub async fn login(&self, request: Login, call: &Call) -> Result<LoggedIn, Error> {
        let email = request.email.as_ref().map(Email::as_str);
        let Checked {
            user_id,
            hash,
            changed_at,
            verified,
        } = self
            .check_password(
                email,
                &request.password,
                call,
                Audit::of(audit::Event::Login),
            )
            .await?;
        if self.hasher.needs_upgrade(&hash) {
            self.upgrade_hash(user_id, &hash, verified, call).await;
        }

        let now = self.clock.now();
        let session = self.draft_session(user_id, request.device_name, now)?;
        let Some(count) = self.db.start_session(&session.row, changed_at).await? else {
            // The password was changed, or the account deleted, during the hash.
            Audit::of(audit::Event::Login)
                .user(user_id)
                .failed(Reason::PasswordChanged);
            return Err(Error::InvalidCredentials);
        };
        // One database counts the new session, the other does not.
        if count >= MAX_SESSIONS {
            self.end_oldest_sessions(user_id, now, call).await;
        }
        Audit::of(audit::Event::Login)
            .user(user_id)
            .session(session.row.id)
            .ok();
        Ok(LoggedIn {
            user_id,
            session: session.started(),
        })
    }

    /// Hashes the password again with the configured cost. If the hasher is busy, or half of
    /// the time until the deadline has passed, the login continues without the upgrade, and
    /// the next login tries again.
    async fn upgrade_hash(
        &self,
        user_id: UserId,
        old: &PasswordHash,
        password: Verified<'_>,
        call: &Call,
    ) {
        let now = Instant::now();
        let deadline = now + call.deadline.saturating_duration_since(now) / 2;
        let upgrade = async {
            let new = self.hasher.rehash(password, deadline).await?;
            self.db
                .upgrade_password_hash(user_id, old.as_str(), new.as_str())
                .await?;
            Ok::<_, Error>(())
        };
        match timeout_at(deadline, upgrade).await {
            Ok(Ok(())) => debug!(%user_id, "upgraded the cost of a password hash"),
            Ok(Err(error)) => {
                debug!(%user_id, error = %Causes(&error), "postponed the upgrade of a password hash");
            }
            Err(_) => debug!(%user_id, "postponed the upgrade of a password hash"),
        }
    }

    /// Ends the sessions beyond the limit. The new session is already written, so a failure
    /// does not fail the login.
    async fn end_oldest_sessions(&self, user_id: UserId, now: Timestamp, call: &Call) {
        let (end, act) = (self.end(SessionEndReason::EndedByUser), call.act(now));
        let ended = self
            .db
            .end_oldest_sessions(user_id, MAX_SESSIONS, end, &act);
        match ended.await {
            Ok(0) => {}
            Ok(ended) => {
                warn!(%user_id, ended, "too many sessions: ended the oldest");
                self.outbox.notify_one();
            }
            Err(error) => {
                warn!(%user_id, error = %Causes(&error), "cannot end the oldest sessions");
            }
        }
    }
}
