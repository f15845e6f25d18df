use super::{
    Auth, Call, Error,
    session::{Device, StartedSession},
};
use crate::{
    db::{NewUser, Registration},
    model::{DeviceLogin, DeviceName, Email, Event, Payload, Timestamp, UserId},
    password::{Password, PasswordHash, Priority},
    telemetry::audit::{self, Audit, Reason},
};

pub struct Register {
    pub email: Email,
    pub password: Password,
    pub start_session: bool,
    pub device_name: Option<DeviceName>,
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
        let hash = self.hash_unless_taken(&email, request.password, call, audit);
        let hash = hash.await?;

        let now = self.clock.now();
        let user_id = UserId::new(now);
        let (login, device) = (
            DeviceLogin {
                user_id,
                password_changed_at: now,
            },
            Device {
                name: request.device_name,
                token: None,
            },
        );
        let session = (request.start_session).then(|| self.draft_session(login, device, now));
        let (row, session) = session.transpose()?.unzip();
        let user = NewUser {
            id: user_id,
            email: email.as_str(),
            password_hash: &self.stored_hash(&hash, user_id)?,
            created_at: now,
        };
        let payload = Payload::UserCreated {
            email: email.clone(),
        };
        let event = Event::new(user_id, payload, &call.act(now));
        match self.db.register(&user, row.as_ref(), &event).await? {
            Registration::Created => self.committed(&event),
            Registration::EmailTaken => return Err(email_taken(audit)),
        }
        if session.is_some() {
            self.store_known_device(&email, call).await;
        }
        let audit = audit.user(user_id);
        audit.session(session.as_ref().map(|s| s.id)).ok();
        Ok(Registered {
            user_id,
            created_at: now,
            session,
        })
    }

    /// Counts the attempt, and hashes a password that the policy accepts. A taken address is
    /// refused here to save the hash. The insert makes the final decision.
    async fn hash_unless_taken(
        &self,
        email: &Email,
        password: Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<PasswordHash, Error> {
        let now = self.clock.now();
        let attempt = self.registration_attempt(email, call, now);
        let (counted, credentials) = self.admit(&attempt, audit).await?;
        let request = call.hash(Priority::Other);
        let password = self.check_policy("password", password, email.as_str(), &request);
        let password = self
            .take_back_if_overloaded(password.await, &attempt, &counted)
            .await?;
        if credentials.is_some() {
            return Err(email_taken(audit));
        }
        let hash = self.hasher.hash(&password, request).await;
        self.take_back_if_overloaded(hash, &attempt, &counted).await
    }
}

fn email_taken(audit: Audit<'_>) -> Error {
    audit.failed(Reason::EmailTaken);
    Error::EmailTaken
}
