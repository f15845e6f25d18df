//! Register: an e-mail address and a password in, an account out.

use super::{
    Auth, Call, Error,
    session::{SessionDraft, StartedSession},
    throttle,
};
use crate::{
    db::{NewUser, Registration},
    model::{DeviceName, Email, Event, Payload, Timestamp, UserId},
    password::{Password, PasswordHash},
    telemetry::audit::{self, Audit, Reason},
};

pub struct Register {
    pub email: Email,
    /// Not checked by the password policy yet.
    pub password: Password,
    /// Whether to start a session too.
    pub start_session: bool,
    /// The name of that session.
    pub device_name: Option<DeviceName>,
}

pub struct Registered {
    pub user_id: UserId,
    pub created_at: Timestamp,
    /// The first session, if the request asked for one.
    pub session: Option<StartedSession>,
}

impl Auth {
    /// Creates an account and, on request, its first session. The hash is the expensive
    /// part: a login right after the registration would pay for a second one.
    pub async fn register(&self, request: Register, call: &Call) -> Result<Registered, Error> {
        let email = request.email;
        let hash = self
            .hash_unless_taken(&email, request.password, call)
            .await?;

        let now = self.clock.now();
        let user_id = UserId::new(now);
        let session = if request.start_session {
            Some(self.draft_session(user_id, request.device_name, now)?)
        } else {
            None
        };
        let user = NewUser {
            id: user_id,
            email: email.as_str(),
            password_hash: hash.as_str(),
            created_at: now,
        };
        let row = session.as_ref().map(|session| &session.row);
        let payload = Payload::UserCreated {
            email: email.clone(),
        };
        let event = Event::new(user_id, payload, &call.act(now));
        match self.db.register(&user, row, &event).await? {
            Registration::Created => self.committed(&event),
            Registration::EmailTaken => return Err(email_taken()),
        }
        let session_id = row.map(|row| row.id);
        Audit::of(audit::Event::Register)
            .user(user_id)
            .session(session_id)
            .ok();
        if session.is_some() {
            self.know_owner(&email, call).await;
        }
        Ok(Registered {
            user_id,
            created_at: now,
            session: session.map(SessionDraft::started),
        })
    }

    /// Counts the attempt, and hashes a password that the policy accepts. A taken address
    /// is refused before the hash, only to save its cost: the insert decides.
    async fn hash_unless_taken(
        &self,
        email: &Email,
        password: Password,
        call: &Call,
    ) -> Result<PasswordHash, Error> {
        let now = self.clock.now();
        let attempt = throttle::registration(&self.throttle, email, call.client_address, now);
        let (counted, credentials) = self
            .admit(&attempt, Audit::of(audit::Event::Register))
            .await?;
        let password = self.check_policy("password", password, email.as_str());
        let password = self
            .take_back_if_overloaded(password.await, &attempt, &counted)
            .await?;
        if credentials.is_some() {
            return Err(email_taken());
        }
        let hash = self.hasher.hash(&password, call.deadline).await;
        self.take_back_if_overloaded(hash, &attempt, &counted).await
    }
}

fn email_taken() -> Error {
    Audit::of(audit::Event::Register).failed(Reason::EmailTaken);
    Error::EmailTaken
}
