use std::{sync::Arc, time::Duration};

use secrecy::SecretSlice;

use super::SigningKey;
use crate::model::{DataKeys, ThrottleLimits};

#[derive(Clone, Debug)]
pub struct Settings {
    pub secrets: SigningSecrets,
    pub data_keys: Arc<DataKeys>,
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    pub lifetimes: Lifetimes,
    pub throttle: ThrottleLimits,
    pub email_verification: EmailVerification,
    pub session_events: SessionEvents,
}

/// Whether the address of a registration must be proven by a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailVerification {
    Off,
    /// A mail is asked for, and access tokens say whether the address is verified.
    Optional,
    /// Also, nobody can log in before.
    Required,
}

/// Whether the start of a session has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvents {
    Off,
    WithoutNetwork,
    /// It names the network of the caller.
    WithNetwork,
}

/// The secrets of the signing keys, all different, each of at least 32 bytes.
#[derive(Clone, Debug)]
pub struct SigningSecrets {
    pub current: SecretSlice<u8>,
    /// The next signing key. It is published early, so that verifiers know it in time.
    pub next: Option<SecretSlice<u8>>,
    /// Do not sign any more, but still verify.
    pub previous: Vec<SecretSlice<u8>>,
}

impl SigningSecrets {
    /// The signing key first.
    pub fn into_keys(self) -> impl Iterator<Item = SigningKey> {
        let secrets = [self.current].into_iter();
        let secrets = secrets.chain(self.next).chain(self.previous);
        secrets.map(SigningKey::new)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Whole seconds.
    pub access_token: Duration,
    /// A session ends if it is not refreshed for this long.
    pub refresh_token: Duration,
    /// A session ends after this time, even if it is refreshed.
    pub session: Duration,
    /// How long after a rotation the previous refresh token is accepted. Zero: never.
    pub retry_window: Duration,
    /// Whole days.
    pub device_token: Duration,
}
