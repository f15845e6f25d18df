use std::time::Duration;

use super::{Auth, Call, Error};
use crate::{
    model::{CounterId, Email, Locale, MailPurpose, MailRequest, mail_counters},
    telemetry::audit::{self, Reason},
};

/// The work takes a few milliseconds.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

pub struct PasswordResetRequest {
    /// As it was sent.
    pub address: String,
    pub locale: Option<Locale>,
}

impl Auth {
    /// Asks for a mail if the address has an account. The request is counted and written for any
    /// address, by as many statements, and the caller answers after [`answer_delay`].
    pub async fn request_password_reset(
        &self,
        request: PasswordResetRequest,
        call: &Call,
    ) -> Result<(), Error> {
        let audit = call.audit(audit::Event::RequestPasswordReset);
        let email = Email::parse(&request.address).ok();
        let counted = email.as_ref().map_or(&*request.address, Email::as_str);
        let counters = mail_counters(&[CounterId::Mails(counted)], call.client_address);
        self.count_for_good(&counters, audit).await?;

        let now = self.clock.now();
        // No account has an empty address.
        let email = email.map_or_else(String::new, |email| email.as_str().to_owned());
        let mail = MailRequest::new(MailPurpose::ResetPassword, email, request.locale, now);
        let event = self.db.request_mail_to(&mail, &call.act(now)).await?;
        if let Some(event) = &event {
            self.committed(event);
            audit.user(event.user_id).mail(mail.id).ok();
        } else {
            audit.failed(Reason::UnknownUser);
        }
        Ok(())
    }
}

/// How long to wait after this much work, so that the time of the answer does not show how much
/// work it was: until a multiple of 100 ms.
pub fn answer_delay(worked: Duration) -> Duration {
    let intervals = worked.as_nanos() / ANSWER_INTERVAL.as_nanos() + 1;
    let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
    ANSWER_INTERVAL
        .saturating_mul(intervals)
        .saturating_sub(worked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_at_a_multiple_of_the_interval() {
        for (worked, delay) in [(0, 100), (1, 99), (99, 1), (100, 100), (250, 50)] {
            let delay = Duration::from_millis(delay);
            assert_eq!(answer_delay(Duration::from_millis(worked)), delay);
        }
    }
}
