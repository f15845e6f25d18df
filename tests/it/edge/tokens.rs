//! Access tokens without a service: the issuer of the service signs them.

use std::time::Duration;

use auth_service::{
    auth::{Issuer, SigningSecrets, Subject},
    model::{Roles, SessionId, Timestamp, UserId},
    proto::KeySet,
};

use crate::harness::{JWT_SECRET, START};

pub const TTL: Duration = Duration::from_hours(1);

pub struct Tokens {
    issuer: Issuer,
    pub user: UserId,
    pub session: SessionId,
}

impl Tokens {
    pub fn new() -> Self {
        Self::signed_with(JWT_SECRET)
    }

    /// Of another user and session.
    pub fn signed_with(secret: &str) -> Self {
        let secrets = SigningSecrets {
            current: secret.as_bytes().to_vec().into(),
            next: None,
            previous: Vec::new(),
        };
        Self {
            issuer: Issuer::new(secrets, "issuer".to_owned(), "audience".to_owned(), TTL),
            user: UserId::new(START),
            session: SessionId::new(START),
        }
    }

    pub fn keys(&self) -> KeySet {
        (&self.issuer).into()
    }

    /// A token without roles, issued at the start of the clock.
    pub fn token(&self) -> String {
        self.issue(START, self.session, &[])
    }

    pub fn issue(&self, now: Timestamp, session: SessionId, roles: &[&str]) -> String {
        let subject = Subject {
            user_id: self.user,
            session_id: session,
            email_verified: None,
            roles: &Roles::parse(roles).unwrap(),
        };
        let token = self.issuer.issue(subject, now, now + TTL).unwrap();
        secrecy::ExposeSecret::expose_secret(&token.jwt).to_owned()
    }

    /// The headers of a good answer to a token without roles.
    pub fn identity(&self) -> Vec<(String, String)> {
        let headers = [
            ("x-session-id", self.session.to_string()),
            ("x-user-id", self.user.to_string()),
        ];
        headers.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
