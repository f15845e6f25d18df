use super::{Auth, Call, Error};
use crate::{
    db::FoundMail,
    model::{Event, MailPurpose, MailToken, Payload, Timestamp, UserId},
    telemetry::audit,
};

pub struct ConfirmedEmail {
    pub user_id: UserId,
    pub email: String,
}

impl Auth {
    /// Verifies the address that the token was sent to.
    pub async fn confirm_email(
        &self,
        token: &MailToken,
        call: &Call,
    ) -> Result<ConfirmedEmail, Error> {
        let audit = call.audit(audit::Event::ConfirmEmail);
        let now = self.clock.now();
        let mail = self.find_mail(token, MailPurpose::VerifyEmail, now).await?;
        let (user_id, email) = (mail.user_id, mail.email.clone());
        let payload = Payload::EmailVerified {
            email: email.clone(),
        };
        let event = Event::new(user_id, payload, &call.act(now));
        if !self.db.verify_email(&mail, &event).await? {
            return Err(Error::InvalidToken);
        }
        self.committed(&event);
        audit.user(user_id).mail(mail.request_id).ok();
        Ok(ConfirmedEmail { user_id, email })
    }

    /// The request of a token, which must be for this purpose.
    pub(super) async fn find_mail(
        &self,
        token: &MailToken,
        purpose: MailPurpose,
        now: Timestamp,
    ) -> Result<FoundMail, Error> {
        let found = self.db.find_mail(token.hash(), now).await?;
        let found = found.filter(|mail| mail.purpose == purpose);
        found.ok_or(Error::InvalidToken)
    }
}
