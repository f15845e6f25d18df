//! Asking for the mail that verifies an account's address.

use super::{Auth, Call, Caller, EmailVerification, Error, Subject};
use crate::{
    model::{
        AccountClaims, CounterId, Locale, MailPurpose, MailRequest, SessionId, Timestamp, UserId,
        mail_counters,
    },
    telemetry::audit::{self, Audit},
};

impl Auth {
    /// Asks for a mail unless the caller's address is verified.
    pub async fn request_email_verification(
        &self,
        caller: &Caller,
        locale: Option<Locale>,
        call: &Call,
    ) -> Result<(), Error> {
        let account = &caller.account;
        if account.email_verified_at.is_some() {
            return Ok(());
        }
        let audit = caller.audit(audit::Event::RequestEmailVerification, call);
        let own = [CounterId::OwnMails(account.user_id)];
        let counters = mail_counters(&own, call.client_address);
        self.count_for_good(&counters, audit).await?;
        let mail = verification(&account.email, locale, self.clock.now());
        self.ask(account.user_id, &mail, call, audit).await
    }

    /// Asks for a mail after a login with the right password, unless one is open or too many were
    /// asked for.
    pub(super) async fn ask_again(
        &self,
        user_id: UserId,
        email: &str,
        call: &Call,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let purpose = MailPurpose::VerifyEmail;
        if self.db.has_open_mail(user_id, purpose, now).await? {
            return Ok(());
        }
        let own = [CounterId::OwnMails(user_id)];
        let counters = mail_counters(&own, call.client_address);
        if !self.is_counted(&counters).await? {
            return Ok(());
        }
        let audit = call
            .audit(audit::Event::RequestEmailVerification)
            .user(user_id);
        self.ask(user_id, &verification(email, None, now), call, audit)
            .await
    }

    async fn ask(
        &self,
        user_id: UserId,
        mail: &MailRequest,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<(), Error> {
        let act = call.act(mail.requested_at);
        if let Some(event) = self.db.request_verification(user_id, mail, &act).await? {
            self.committed(&event);
            audit.mail(mail.id).ok();
        }
        Ok(())
    }

    /// The mail of a registration, if there is one.
    pub(super) fn mail_of_registration(&self, email: &str, now: Timestamp) -> Option<MailRequest> {
        let is_wanted = self.email_verification != EmailVerification::Off;
        is_wanted.then(|| verification(email, None, now))
    }

    /// The bearer of an access token.
    pub(super) fn subject<'a>(
        &self,
        user_id: UserId,
        session_id: SessionId,
        claims: &'a AccountClaims,
    ) -> Subject<'a> {
        let is_claimed = self.email_verification != EmailVerification::Off;
        Subject {
            user_id,
            session_id,
            email_verified: is_claimed.then_some(claims.email_verified),
            roles: &claims.roles,
        }
    }
}

fn verification(email: &str, locale: Option<Locale>, now: Timestamp) -> MailRequest {
    MailRequest::new(MailPurpose::VerifyEmail, email.to_owned(), locale, now)
}
