use std::time::Duration;

use super::{
    Auth, Call, Error,
    session::{Device, Start, StartedSession},
};
use crate::{
    db::{FoundMail, NewHash, Reset},
    model::{
        AccountClaims, CounterId, DeviceLogin, DeviceName, Event, MailPurpose, MailToken,
        PasswordChangeCause, Payload, SessionEndReason, UserId,
    },
    password::{Password, PasswordHash, Priority},
    telemetry::audit,
};

pub struct ResetPassword {
    pub token: MailToken,
    pub new_password: Password,
    pub start_session: bool,
    pub device_name: Option<DeviceName>,
}

pub struct PasswordReset {
    pub user_id: UserId,
    pub session: Option<StartedSession>,
}

impl Auth {
    /// Replaces a forgotten password. The mailbox was proven: this is also how an owner takes
    /// back an address that another party registered. The token is looked up before any hash is
    /// paid, and it is used up only together with the change.
    pub async fn reset_password(
        &self,
        request: ResetPassword,
        call: &Call,
    ) -> Result<PasswordReset, Error> {
        let audit = call.audit(audit::Event::ResetPassword);
        let mail = self.find_mail(&request.token, self.clock.now()).await?;
        if mail.purpose != MailPurpose::ResetPassword {
            return Err(Error::InvalidToken);
        }
        let user_id = mail.user_id;
        // A new password that is refused uses up nothing, and checking it costs time.
        let uses = [CounterId::MailTokens(mail.request_id)];
        self.count_for_good(&uses, audit.user(user_id)).await?;
        let hash = self.check_and_hash(&mail, request.new_password, call);
        let hash = hash.await?;

        let now = self.clock.now();
        // Later than the previous time even if the clock went back: the time identifies
        // the password.
        let changed_at = now.max(mail.password_changed_at + Duration::from_micros(1));
        let act = call.act(now);
        let cause = PasswordChangeCause::Reset;
        let changed = Payload::PasswordChanged { changed_at, cause };
        let changed = Event::new(user_id, changed, &act);
        let email = mail.email.clone();
        let verified = Event::new(user_id, Payload::EmailVerified { email }, &act);
        let start = Start {
            login: DeviceLogin {
                user_id,
                password_changed_at: changed_at,
            },
            device: Device {
                name: request.device_name,
                token: None,
            },
            claims: AccountClaims {
                email_verified: true,
                roles: mail.roles.clone(),
            },
        };
        let session = (request.start_session).then(|| self.draft_session(start, now, call));
        let (row, session) = session.transpose()?.unzip();
        let account = CounterId::Account(&mail.email);
        let counters: Vec<_> = self.data_keys.all().map(|key| account.key(key)).collect();
        let reset = Reset {
            mail: &mail,
            new: NewHash {
                hash: &self.stored_hash(&hash, user_id)?,
                changed_at,
                event: &changed,
            },
            verified: &verified,
            session: row.as_ref(),
            end: self.end(SessionEndReason::PasswordReset),
            counters: &counters,
        };
        let ended = self.db.reset_password(&reset).await?;
        // Another call has used the request up, the password has changed, or the account was
        // suspended.
        ended.ok_or(Error::InvalidToken)?;
        self.committed(&changed);
        let audit = audit.user(user_id).mail(mail.request_id);
        audit.session(session.as_ref().map(|s| s.id)).ok();
        Ok(PasswordReset { user_id, session })
    }

    async fn check_and_hash(
        &self,
        mail: &FoundMail,
        password: Password,
        call: &Call,
    ) -> Result<PasswordHash, Error> {
        let request = call.hash(Priority::KnownDevice(mail.user_id));
        let password = self.check_policy("new_password", password, &mail.email, &request);
        Ok(self.hasher.hash(&password.await?, request).await?)
    }
}
