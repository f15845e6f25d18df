use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::{
    Auth, Call, EmailVerification, Error,
    credentials::{Checked, Claim},
    session::{Device, Start, StartedSession},
};
use crate::{
    model::{DeviceLogin, Email, SessionEndReason, UserId},
    password::Password,
    telemetry::{
        Causes, LIMITED,
        audit::{self, Audit, Reason},
    },
};

pub struct Login {
    /// `None` for a malformed address, which no account can have.
    pub email: Option<Email>,
    pub password: Password,
    pub device: Device,
}

pub struct LoggedIn {
    pub user_id: UserId,
    pub session: StartedSession,
}

impl Auth {
    /// Checks the password and starts a session, if the account still has the password that
    /// was checked: it may have changed during the hash.
    pub async fn login(&self, request: Login, call: &Call) -> Result<LoggedIn, Error> {
        let audit = call.audit(audit::Event::Login);
        let claim = Claim::Login {
            email: request.email.as_ref().map(Email::as_str),
            device: request.device.token.as_ref(),
        };
        let checked = self.check_password(claim, &request.password, call, audit);
        let checked = checked.await?;
        let (login, claims) = (checked.login, checked.claims.clone());
        let user_id = login.user_id;
        let audit = audit.user(user_id);
        let email = request.email.as_ref().map_or("", Email::as_str);
        if !claims.email_verified && self.email_verification == EmailVerification::Required {
            self.ask_again(user_id, email, call).await?;
            audit.failed(Reason::EmailNotVerified);
            return Err(Error::EmailNotVerified);
        }
        if checked.verified.needs_upgrade() {
            self.upgrade_hash(checked, call).await;
        }

        let now = self.clock.now();
        let start = Start {
            login,
            device: request.device,
            claims,
        };
        let (row, session) = self.draft_session(start, now, call)?;
        let (end, act) = (self.end(SessionEndReason::TooMany), call.act(now));
        let started = (self.db).start_session(&row, login.password_changed_at, end, &act);
        let Some(ended) = started.await? else {
            return Err(self.refused_start(email, login, audit).await);
        };
        if let Some(event) = &row.event {
            self.committed(event);
        }
        if ended > 0 {
            warn!(name: LIMITED, %user_id, ended, "too many sessions: ended the oldest");
            self.commits.notify();
        }
        audit.session(session.id).ok();
        Ok(LoggedIn { user_id, session })
    }

    /// Why the account starts no session although the password was right: during the hash it was
    /// suspended, or the password was changed, or the account deleted.
    async fn refused_start(&self, email: &str, login: DeviceLogin, audit: Audit<'_>) -> Error {
        let found = match self.db.find_credentials(email).await {
            Ok(found) => found,
            Err(error) => return error.into(),
        };
        let same = found.filter(|it| {
            it.user_id == login.user_id && it.password_changed_at == login.password_changed_at
        });
        if let Some(Err(suspended)) = same.map(|it| self.check_suspension(&it, audit)) {
            return suspended;
        }
        audit.failed(Reason::PasswordChanged);
        Error::InvalidCredentials
    }

    /// Hashes the password again, in NFC and with the configured cost. If the hasher is busy, or
    /// half of the time until the deadline has passed, the login continues without the upgrade,
    /// and the next login tries again.
    async fn upgrade_hash(&self, checked: Checked<'_>, call: &Call) {
        let (user_id, old) = (checked.login.user_id, checked.stored_hash);
        let now = Instant::now();
        let deadline = now + call.deadline.saturating_duration_since(now) / 2;
        let upgrade = async {
            let new = self.hasher.rehash(checked.verified, deadline).await?;
            let new = self.stored_hash(&new, user_id)?;
            let upgraded = self.db.upgrade_password_hash(user_id, &old, &new);
            Ok::<_, Error>(upgraded.await?)
        };
        match timeout_at(deadline, upgrade).await {
            Ok(Ok(())) => debug!(%user_id, "upgraded a password hash"),
            Ok(Err(error)) => {
                let error = Causes(&error);
                debug!(%user_id, %error, "postponed the upgrade of a password hash");
            }
            Err(_) => debug!(%user_id, "postponed the upgrade of a password hash"),
        }
    }
}
