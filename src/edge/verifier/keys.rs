//! The keys of the service, and what they accept.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    Claims, Refusal, seconds,
    token::{self, Parts, Payload},
};

/// How far the clock of the service may be ahead of this machine's, in seconds.
const CLOCK_SKEW: u64 = 60;

/// The keys, and the rules for the claims of the tokens that they signed.
#[derive(Default)]
pub struct KeySet {
    pub keys: Vec<Key>,
    /// The `iss` of every token.
    pub issuer: String,
    /// The `aud` of every token.
    pub audience: String,
    /// The largest `exp` - `iat` of a valid token. A longer one was forged with a leaked key.
    pub longest_life: Duration,
}

/// A key for HS256. Anyone who has its secret can issue tokens, so it has no `Debug`.
pub struct Key {
    id: String,
    /// It has hashed the secret. A clone of it hashes a token.
    mac: Hmac<Sha256>,
}

impl Key {
    /// The `id` is the `kid` in the header of its tokens.
    #[must_use]
    pub fn new(id: String, secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes a key of any length");
        Self { id, mac }
    }

    /// Compares in constant time.
    pub(crate) fn has_signed(&self, parts: &Parts<'_>) -> bool {
        let mac = self.mac.clone().chain_update(parts.signed);
        mac.verify_slice(parts.signature()).is_ok()
    }
}

impl KeySet {
    /// Whether the service issued the token and it is valid `now`. Its session may have ended.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, Refusal> {
        let mut buffer = token::BUFFER;
        let parts = Parts::split(token).ok_or(Refusal::Malformed)?;
        let header = parts.header(&mut buffer).ok_or(Refusal::Malformed)?;
        let key = self.keys.iter().find(|key| key.id == header.kid);
        if !key.ok_or(Refusal::UnknownKey)?.has_signed(&parts) {
            return Err(Refusal::Malformed);
        }
        let payload = parts.payload(&mut buffer).ok_or(Refusal::Malformed)?;
        self.check(&payload, seconds(now))?;
        payload.into_claims().ok_or(Refusal::Malformed)
    }

    fn check(&self, payload: &Payload<'_>, now: u64) -> Result<(), Refusal> {
        if payload.iss != self.issuer || payload.aud != self.audience {
            return Err(Refusal::Foreign);
        }
        if payload.exp <= now {
            return Err(Refusal::Expired);
        }
        let latest = now + CLOCK_SKEW;
        let has_begun = payload.iat <= latest && payload.nbf.is_none_or(|nbf| nbf <= latest);
        let life = payload.exp.checked_sub(payload.iat);
        let is_short = life.is_some_and(|life| life <= self.longest_life.as_secs());
        if !has_begun || !is_short {
            return Err(Refusal::Foreign);
        }
        Ok(())
    }
}
