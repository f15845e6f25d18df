use super::{Auth, Call, Error};
use crate::{
    db::{Change, FoundMail, MailRefusal},
    model::{
        Event, MailPurpose, MailRequest, MailRequestId, MailToken, Payload, SessionEndReason,
        Timestamp, UserId,
    },
    telemetry::audit::{self, Audit, Reason},
};

pub struct ConfirmedEmail {
    pub user_id: UserId,
    pub email: String,
}

impl Auth {
    /// Verifies the address that the token was sent to, or completes a change to it.
    pub async fn confirm_email(
        &self,
        token: &MailToken,
        call: &Call,
    ) -> Result<ConfirmedEmail, Error> {
        let audit = call.audit(audit::Event::ConfirmEmail);
        let now = self.clock.now();
        let mail = self.find_mail(token, now).await?;
        let audit = audit.user(mail.user_id);
        let audited = match mail.purpose {
            MailPurpose::VerifyEmail => {
                self.verify(&mail, now, call).await?;
                mail.request_id
            }
            MailPurpose::ChangeEmail => self.complete_change(&mail, now, call, audit).await?,
            MailPurpose::ResetPassword | MailPurpose::RevertEmail => {
                return Err(Error::InvalidToken);
            }
        };
        audit.mail(audited).ok();
        Ok(ConfirmedEmail {
            user_id: mail.user_id,
            email: mail.sent_to,
        })
    }

    async fn verify(&self, mail: &FoundMail, now: Timestamp, call: &Call) -> Result<(), Error> {
        let email = mail.sent_to.clone();
        let event = Event::new(
            mail.user_id,
            Payload::EmailVerified { email },
            &call.act(now),
        );
        if !self.db.verify_email(mail, &event).await? {
            return Err(Error::InvalidToken);
        }
        self.committed(&event);
        Ok(())
    }

    /// Returns the request of the mail that can undo the change.
    async fn complete_change(
        &self,
        mail: &FoundMail,
        now: Timestamp,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<MailRequestId, Error> {
        let purpose = MailPurpose::RevertEmail;
        let revert = MailRequest::new(purpose, mail.email.clone(), None, now);
        let payload = Payload::EmailChanged {
            old: mail.email.clone(),
            new: mail.sent_to.clone(),
            reverted: false,
        };
        let event = Event::new(mail.user_id, payload, &call.act(now));
        let change = Change {
            mail,
            revert: &revert,
            event: &event,
            end: self.end(SessionEndReason::EmailChanged),
        };
        let changed = self.db.change_email(&change).await?;
        let audit = audit.mail(mail.request_id);
        changed.map_err(|why| self.refused(why, now, audit))?;
        self.committed(&event);
        Ok(revert.id)
    }

    pub(super) async fn find_mail(
        &self,
        token: &MailToken,
        now: Timestamp,
    ) -> Result<FoundMail, Error> {
        let found = self.db.find_mail(token.hash(), now).await?;
        found.ok_or(Error::InvalidToken)
    }

    pub(super) fn refused(&self, why: MailRefusal, now: Timestamp, audit: Audit<'_>) -> Error {
        match why {
            MailRefusal::Void => Error::InvalidToken,
            MailRefusal::EmailTaken => {
                audit.failed(Reason::EmailTaken);
                Error::EmailTaken
            }
            MailRefusal::TooManyChanges(until) => self.too_many(until.since(now), audit),
        }
    }
}
