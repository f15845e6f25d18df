use super::{
    Auth, Call, EmailVerification, Error,
    session::{Device, Start, StartedSession},
};
use crate::{
    db::{NewUser, Registration},
    model::{
        AccountClaims, DeviceLogin, DeviceName, Email, Event, Locale, Payload, Timestamp, UserId,
        registration_counters,
    },
    password::{Password, PasswordHash, Priority},
    telemetry::audit::{self, Audit, Reason},
};

pub struct Register {
    pub email: Email,
    pub password: Password,
    pub start_session: bool,
    pub device_name: Option<DeviceName>,
    /// The language of mails to the user.
    pub locale: Option<Locale>,
}

pub struct Registered {
    pub user_id: UserId,
    pub created_at: Timestamp,
    pub session: Option<StartedSession>,
}

impl Auth {
    /// Creates an account and, on request, its first session. The hash is the expensive
    /// part: a login right after the registration would pay for a second one.
    pub async fn register(&self, request: Register, call: &Call) -> Result<Registered, Error> {
        let email = request.email;
        let audit = call.audit(audit::Event::Register);
        let hash = self.count_and_hash(&email, request.password, call, audit);
        let hash = hash.await?;

        let now = self.clock.now();
        let user_id = UserId::new(now);
        let start = Start {
            login: DeviceLogin {
                user_id,
                password_changed_at: now,
            },
            device: Device {
                name: request.device_name,
                token: None,
            },
            claims: AccountClaims::default(),
        };
        let starts =
            request.start_session && self.email_verification != EmailVerification::Required;
        let session = starts.then(|| self.draft_session(start, now, call));
        let (row, session) = session.transpose()?.unzip();
        let user = NewUser {
            id: user_id,
            email: email.as_str(),
            password_hash: &self.stored_hash(&hash, user_id)?,
            locale: request.locale.as_ref(),
            created_at: now,
        };
        let payload = Payload::UserCreated {
            email: email.clone(),
            created_at: now,
            imported: false,
        };
        let event = Event::new(user_id, payload, &call.act(now));
        let mail = self.mail_of_registration(email.as_str(), now);
        let registered = self.db.register(&user, row.as_ref(), mail.as_ref(), &event);
        match registered.await? {
            Registration::Created => self.committed(&event),
            Registration::EmailTaken => {
                audit.failed(Reason::EmailTaken);
                return Err(Error::EmailTaken);
            }
        }
        let audit = audit.user(user_id).mail(mail.map(|mail| mail.id));
        audit.session(session.as_ref().map(|s| s.id)).ok();
        Ok(Registered {
            user_id,
            created_at: now,
            session,
        })
    }

    /// Counts the attempt, and hashes a password that the policy accepts. The address is not
    /// looked up before: a known and an unknown one cost the same, whatever the deadline is.
    async fn count_and_hash(
        &self,
        email: &Email,
        password: Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<PasswordHash, Error> {
        let counters = registration_counters(call.client_address);
        self.count_for_good(&counters, audit).await?;
        let request = call.hash(Priority::Other);
        let password = self.check_policy("password", password, email.as_str(), &request);
        let password = password.await?;
        Ok(self.hasher.hash(&password, request).await?)
    }
}
