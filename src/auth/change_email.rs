use super::{Auth, Call, Caller, Error, caller::done, credentials::Claim};
use crate::{
    model::{
        CHANGES_COUNT_FOR, CounterId, Email, Locale, MAX_CHANGES, MailPurpose, MailRequest,
        mail_counters,
    },
    password::Password,
    telemetry::audit,
};

pub struct ChangeEmail {
    pub current_password: Password,
    pub new_email: Email,
    pub locale: Option<Locale>,
}

impl Auth {
    /// Asks for the mail that completes a change of the address. The answer does not show whether
    /// another account has the new one: only the mail's token does.
    pub async fn change_email(
        &self,
        caller: &Caller,
        request: ChangeEmail,
        call: &Call,
    ) -> Result<(), Error> {
        let account = &caller.account;
        let audit = caller.audit(audit::Event::ChangeEmail, call);
        let claim = Claim::SignedIn(caller);
        self.check_password(claim, &request.current_password, call, audit)
            .await?;
        let email = request.new_email.as_str();
        if email == account.email {
            let problem = "must differ from the current address";
            return Err(Error::invalid("new_email", problem));
        }
        let own = CounterId::OwnMails(account.user_id);
        let counters = [own, CounterId::MailsToNew(email)];
        let counters = mail_counters(&counters, call.client_address);
        self.count_for_good(&counters, audit).await?;
        let now = self.clock.now();
        let changes = self.db.changes_of_email(account.user_id, now).await?;
        if let Some(oldest) = changes.get(MAX_CHANGES - 1) {
            let retry_after = (*oldest + CHANGES_COUNT_FOR).since(now);
            return Err(self.too_many(retry_after, audit));
        }
        let purpose = MailPurpose::ChangeEmail;
        let mail = MailRequest {
            session_id: Some(caller.session_id),
            ..MailRequest::new(purpose, email.to_owned(), request.locale, now)
        };
        let (own, act) = (caller.session_id, call.act(now));
        let asked = self.db.request_change_of_email(account, own, &mail, &act);
        let event = done(asked.await?, audit)?;
        self.committed(&event);
        audit.mail(mail.id).ok();
        Ok(())
    }
}
