//! What the use cases can be configured with.

use std::time::Duration;

use secrecy::SecretSlice;

use crate::model::ThrottleLimits;

/// The settings of tokens, sessions and the login throttle.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys of access tokens.
    pub secrets: SigningSecrets,
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// How long tokens and sessions last.
    pub lifetimes: Lifetimes,
    /// The limits of the login throttle.
    pub throttle: ThrottleLimits,
}

/// The keys of access tokens, all different, each of at least 32 bytes.
#[derive(Clone, Debug)]
pub struct SigningSecrets {
    /// Signs new tokens.
    pub current: SecretSlice<u8>,
    /// Will sign next. It is published before, so that verifiers know it in time.
    pub next: Option<SecretSlice<u8>>,
    /// No longer sign, but still verify.
    pub previous: Vec<SecretSlice<u8>>,
}

/// How long tokens and sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An access token: whole seconds.
    pub access_token: Duration,
    /// A refresh token, and with it a session that is not refreshed.
    pub refresh_token: Duration,
    /// A session, however often it is refreshed.
    pub session: Duration,
    /// How long the previous refresh token may be presented again; zero for never.
    pub retry_window: Duration,
}
