use super::{Auth, Call, ConfirmedEmail, Error};
use crate::{
    db::Revert,
    model::{MailPurpose, MailRequest, MailToken, SessionEndReason},
    telemetry::audit,
};

impl Auth {
    /// Gives the account its old address back. Somebody who knew the password has changed it, so
    /// the password is unusable until the owner resets it.
    pub async fn revert_email(
        &self,
        token: &MailToken,
        call: &Call,
    ) -> Result<ConfirmedEmail, Error> {
        let audit = call.audit(audit::Event::RevertEmail);
        let now = self.clock.now();
        let mail = self.find_mail(token, now).await?;
        if mail.purpose != MailPurpose::RevertEmail {
            return Err(Error::InvalidToken);
        }
        let (user_id, email) = (mail.user_id, mail.sent_to.clone());
        let purpose = MailPurpose::ResetPassword;
        let reset = MailRequest::new(purpose, email.clone(), None, now);
        let revert = Revert {
            mail: &mail,
            reset: &reset,
            end: self.end(SessionEndReason::EmailReverted),
            act: &call.act(now),
        };
        let audit = audit.user(user_id);
        let reverted = self.db.revert_email(&revert).await?;
        reverted.map_err(|why| self.refused(why, now, audit.mail(mail.request_id)))?;
        self.commits.notify();
        audit.mail(reset.id).ok();
        Ok(ConfirmedEmail { user_id, email })
    }
}
