//! Access tokens (RFC 9068) and the keys that sign them.
//!
//! The signing algorithm is HS256, so whoever verifies holds the same secret. A key's id
//! is the RFC 7638 thumbprint of the secret: replicas with the same configuration agree
//! on it without a word. Keys rotate in three steps: a next key is published before it
//! signs, a previous one after it stopped.
//!
//! Gateways verify tokens by themselves; `Issuer::verify` does the same for the calls of
//! a signed-in user. It accepts what this service issues and nothing else.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::hs256;
use crate::model::{SessionId, Timestamp, TokenId, UserId};

/// The header's `typ` (RFC 9068, 2.1).
const TYPE: &str = "at+jwt";

/// How far ahead the clock of the replica that issued a token may be. Without it, who has
/// just logged in would be a stranger to the replica next door.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A key that signs or verifies.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    secret: SecretSlice<u8>,
}

impl SigningKey {
    /// The key with this secret.
    #[must_use]
    pub fn new(secret: SecretSlice<u8>) -> Self {
        // RFC 7638, 3.2: the required members of an `oct` key in lexicographic order.
        let k = Zeroizing::new(BASE64URL.encode(secret.expose_secret()));
        let jwk = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, *k));
        let id = BASE64URL.encode(Sha256::digest(jwk.as_bytes()));
        Self { id, secret }
    }

    /// The `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The HMAC secret.
    #[must_use]
    pub const fn secret(&self) -> &SecretSlice<u8> {
        &self.secret
    }
}

/// Signs access tokens, and knows all keys that a valid one may be signed with.
pub struct Issuer {
    keys: Vec<SigningKey>,
    encoding: EncodingKey,
    name: String,
    audience: String,
    ttl: Duration,
}

/// A signed token.
pub struct AccessToken {
    /// The JWT.
    pub jwt: SecretString,
    /// Its `exp`.
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    jti: String,
    iat: i64,
    exp: i64,
}

/// What a token is checked for; `nbf` is somebody else's who has our key.
#[derive(Deserialize)]
struct Presented {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    nbf: Option<i64>,
    exp: i64,
}

/// Whom a valid token names.
pub(super) struct Bearer {
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
}

impl Issuer {
    /// Signs with `signing`; tokens of the `others` (next and previous keys) are valid too.
    /// `name` is the `iss`.
    #[must_use]
    pub fn new(
        signing: SigningKey,
        others: Vec<SigningKey>,
        name: String,
        audience: String,
        ttl: Duration,
    ) -> Self {
        hs256::install();
        let encoding = EncodingKey::from_secret(signing.secret.expose_secret());
        let keys = std::iter::once(signing).chain(others).collect();
        Self {
            keys,
            encoding,
            name,
            audience,
            ttl,
        }
    }

    /// Issues a token for a session.
    pub fn issue(
        &self,
        user_id: UserId,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<AccessToken, jsonwebtoken::errors::Error> {
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(self.signing_key().id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        // NumericDate has whole seconds (RFC 7519, section 2).
        let issued_at = Timestamp::from_micros(now.as_secs() * 1_000_000);
        let expires_at = issued_at + self.ttl;
        let claims = Claims {
            iss: &self.name,
            aud: &self.audience,
            sub: user_id.to_string(),
            sid: session_id.to_string(),
            jti: TokenId::new(now).to_string(),
            iat: issued_at.as_secs(),
            exp: expires_at.as_secs(),
        };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.encoding)?.into();
        Ok(AccessToken { jwt, expires_at })
    }

    /// Reads a token; `None` unless it is one of ours and valid `now`. Whether its session
    /// lives is another question.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Option<Bearer> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let kid = header.kid.as_deref()?;
        let key = self.keys.iter().find(|key| key.id == kid)?;
        // We understand no extension, so none may be critical (RFC 7515, 4.1.11).
        if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return None;
        }
        let key = DecodingKey::from_secret(key.secret.expose_secret());
        let token = jsonwebtoken::decode::<Presented>(token, &key, &signature_only()).ok()?;
        let claims = token.claims;
        let expected = claims.iss == self.name && claims.aud == self.audience;
        if !expected || !claims.are_valid_at(now) {
            return None;
        }
        Some(Bearer {
            user_id: UserId::parse(&claims.sub)?,
            session_id: SessionId::parse(&claims.sid)?,
        })
    }

    /// The key that signs.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.keys[0]
    }

    /// Every key that a valid token may be signed with, the signing key first.
    #[must_use]
    pub fn verification_keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The `iss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `aud`.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// How long a token lives.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }
}

impl Presented {
    /// Not expired, and not from the future.
    fn are_valid_at(&self, now: Timestamp) -> bool {
        let latest = (now + CLOCK_SKEW).as_secs();
        now.as_secs() < self.exp && self.iat <= latest && self.nbf.is_none_or(|nbf| nbf <= latest)
    }
}

/// The claims are ours to check: `jsonwebtoken` would take their time from the system, and
/// a claim that is missing for right.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}
