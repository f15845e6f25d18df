use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Auth, Call, Error};
use crate::{
    model::{Email, Locale, MailPurpose, MailRequest, mail_counters},
    telemetry::audit::{self, Reason},
};

/// The answer is sent at a multiple of this time after the request. The work takes a few
/// milliseconds, and for a known address one insert more.
const BEAT: Duration = Duration::from_millis(100);

pub struct PasswordResetRequest {
    /// As it was sent.
    pub address: String,
    pub locale: Option<Locale>,
}

impl Auth {
    /// Asks for a mail if the address has an account. Neither the answer nor its time shows
    /// whether it has one: the request is counted and written for any address.
    pub async fn request_password_reset(
        &self,
        request: PasswordResetRequest,
        call: &Call,
    ) -> Result<(), Error> {
        let received = Instant::now();
        let audit = call.audit(audit::Event::RequestPasswordReset);
        let email = Email::parse(&request.address).ok();
        let counted = email.as_ref().map_or(&*request.address, Email::as_str);
        let counters = mail_counters(counted, call.client_address);
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
        sleep_until(received + until_beat(received.elapsed())).await;
        Ok(())
    }
}

/// The next beat after this much work.
fn until_beat(worked: Duration) -> Duration {
    let beats = worked.as_nanos() / BEAT.as_nanos() + 1;
    BEAT.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_next_beat() {
        for (worked, answered) in [(0, 100), (1, 100), (99, 100), (100, 200), (250, 300)] {
            let answered = Duration::from_millis(answered);
            assert_eq!(until_beat(Duration::from_millis(worked)), answered);
        }
    }
}
