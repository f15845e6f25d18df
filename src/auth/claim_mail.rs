use super::{Auth, Call, Error};
use crate::{
    model::{ClaimedMail, MailRequestId, MailToken, Timestamp},
    telemetry::audit::{self, Reason},
};

pub struct MailToSend {
    pub mail: ClaimedMail,
    pub token: MailToken,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl Auth {
    /// Gives the mailer what it sends, with a new token.
    pub async fn claim_mail(&self, id: MailRequestId, call: &Call) -> Result<MailToSend, Error> {
        let audit = call.audit(audit::Event::ClaimMail);
        let token = MailToken::generate()?;
        let claimed = self.db.claim_mail(id, token.hash(), self.clock.now());
        let Some((mail, expires_at)) = claimed.await? else {
            audit.mail(id).failed(Reason::UnknownMailRequest);
            return Err(Error::MailRequestNotFound);
        };
        audit.user(mail.user_id).mail(id).ok();
        Ok(MailToSend {
            mail,
            token,
            expires_at,
        })
    }
}
