use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::{Auth, Call, Error, credentials::Checked, session::StartedSession};
use crate::{
    db::NewSession,
    model::{DeviceName, Email, MAX_SESSIONS, SessionEndReason, UserId},
    password::Password,
    telemetry::{
        Causes, LIMITED,
        audit::{self, Reason},
    },
};

pub struct Login {
    /// `None` for a malformed address, which no account can have.
    pub email: Option<Email>,
    pub password: Password,
    pub device_name: Option<DeviceName>,
}

pub struct LoggedIn {
    pub user_id: UserId,
    pub session: StartedSession,
}

impl Auth {
    /// Checks the password and starts a session, if the account still has the password that
    /// was checked: it may have changed during the hash.
    pub async fn login(&self, request: Login, call: &Call) -> Result<LoggedIn, Error> {
        let email = request.email.as_ref().map(Email::as_str);
        let audit = call.audit(audit::Event::Login);
        let checked = self.check_password(email, &request.password, call, audit);
        let checked = checked.await?;
        let (user_id, changed_at) = (checked.user_id, checked.changed_at);
        let audit = audit.user(user_id);
        if self.hasher.needs_upgrade(&checked.hash) {
            self.upgrade_hash(checked, call).await;
        }

        let now = self.clock.now();
        let (row, session) = self.draft_session(user_id, request.device_name, now)?;
        let Some(count) = self.db.start_session(&row, changed_at).await? else {
            // The account may also have been deleted.
            audit.failed(Reason::PasswordChanged);
            return Err(Error::InvalidCredentials);
        };
        // The count includes the new session on SQLite but not on Postgres.
        if count >= MAX_SESSIONS {
            self.end_oldest_sessions(&row, call).await;
        }
        audit.session(session.id).ok();
        Ok(LoggedIn { user_id, session })
    }

    /// Hashes the password again with the configured cost. If the hasher is busy, or half of
    /// the time until the deadline has passed, the login continues without the upgrade, and
    /// the next login tries again.
    async fn upgrade_hash(&self, checked: Checked<'_>, call: &Call) {
        let (user_id, old) = (checked.user_id, checked.hash.as_str());
        let now = Instant::now();
        let deadline = now + call.deadline.saturating_duration_since(now) / 2;
        let upgrade = async {
            let new = self.hasher.rehash(checked.verified, deadline).await?;
            let upgraded = self.db.upgrade_password_hash(user_id, old, new.as_str());
            Ok::<_, Error>(upgraded.await?)
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
    async fn end_oldest_sessions(&self, started: &NewSession, call: &Call) {
        let (user_id, act) = (started.user_id, call.act(started.created_at));
        let end = self.end(SessionEndReason::TooMany);
        let ended = self.db.end_oldest_sessions(user_id, started.id, end, &act);
        match ended.await {
            Ok(0) => {}
            Ok(ended) => {
                warn!(name: LIMITED, %user_id, ended, "too many sessions: ended the oldest");
                self.commits.notify_one();
            }
            Err(error) => {
                warn!(name: LIMITED, %user_id, error = %Causes(&error), "cannot end the oldest sessions");
            }
        }
    }
}
