//! Help for users who cannot log in. Administrators see no secret: the mailer gets it.

use super::{Admin, known};
use crate::{
    auth::{Call, Error},
    db::NoReset,
    model::{CounterId, SessionEndReason, UserId},
    telemetry::audit::{self, Reason},
};

impl Admin {
    /// Asks for a mail with which the user resets the password. It does not count for the limits
    /// of mails.
    pub async fn send_password_reset(&self, id: UserId, call: &Call) -> Result<(), Error> {
        let audit = call.audit(audit::Event::SendPasswordReset).user(id);
        let act = call.admin_act(self.clock.now());
        match self.db.send_reset(id, &act).await? {
            Ok(mail) => {
                self.done(audit.mail(mail));
                Ok(())
            }
            Err(NoReset::UnknownUser) => {
                audit.failed(Reason::UnknownUser);
                Err(Error::UserNotFound)
            }
            Err(NoReset::Suspended(until)) => {
                audit.failed(Reason::AccountSuspended);
                Err(Error::AccountSuspended { until })
            }
        }
    }

    /// Makes the password unusable, ends all sessions, and asks for a reset.
    pub async fn invalidate_password(&self, id: UserId, call: &Call) -> Result<(), Error> {
        let audit = call.audit(audit::Event::InvalidatePassword).user(id);
        let act = call.admin_act(self.clock.now());
        let end = self.end(SessionEndReason::PasswordInvalidated);
        let mail = known(self.db.invalidate_password(id, end, &act).await?, audit)?;
        self.done(audit.mail(mail));
        Ok(())
    }

    /// Clears the account's counter of failed logins, under each data key.
    pub async fn unlock_user(&self, id: UserId, call: &Call) -> Result<(), Error> {
        let audit = call.audit(audit::Event::UnlockUser).user(id);
        let found = known(self.db.find_user(id, self.clock.now()).await?, audit)?;
        let account = CounterId::Account(&found.user.email);
        let keys: Vec<_> = self.data_keys.all().map(|key| account.key(key)).collect();
        self.db.clear_throttle(&keys).await?;
        audit.ok();
        Ok(())
    }
}
