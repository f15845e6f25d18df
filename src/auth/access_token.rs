//! Access tokens (RFC 9068): how they are signed and verified.
//!
//! Gateways verify tokens without this service. [`Issuer::verify`] does the same for the calls
//! of a signed-in user, and accepts only what this service issues.
//!
//! `jsonwebtoken` encodes and decodes the JWS and compares the signature. Its own checks of
//! the claims are off: they read the time from the system instead of the [`Clock`], and accept
//! a token in which a claim is missing.
//!
//! [`Clock`]: crate::model::Clock

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{SigningKey, SigningSecrets, hs256};
use crate::model::{Roles, SessionId, Timestamp, TokenId, UserId};

/// The header `typ` (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";

/// How far the clock of the issuing replica may be ahead. Without a tolerance, a replica whose
/// clock is behind would refuse a token that was issued a moment ago.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

pub struct Issuer {
    /// The keys of all valid tokens, the signing key first.
    pub keys: Vec<SigningKey>,
    encoding: EncodingKey,
    /// The `iss`.
    pub name: String,
    pub audience: String,
    pub ttl: Duration,
}

pub struct AccessToken {
    pub jwt: SecretString,
    pub expires_at: Timestamp,
}

/// The bearer of an access token.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub user_id: UserId,
    pub session_id: SessionId,
    /// `None` if addresses are not verified here.
    pub email_verified: Option<bool>,
    pub roles: &'a Roles,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    /// RFC 9068, section 2.2.3.1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<&'a str>,
}

/// The claims that are checked. This service never writes `nbf`, but another issuer with the
/// same key may.
#[derive(Deserialize)]
struct PresentedClaims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    nbf: Option<i64>,
    exp: i64,
}

impl Issuer {
    pub fn new(secrets: SigningSecrets, name: String, audience: String, ttl: Duration) -> Self {
        hs256::install();
        let encoding = EncodingKey::from_secret(secrets.current.expose_secret());
        Self {
            keys: secrets.into_keys().collect(),
            encoding,
            name,
            audience,
            ttl,
        }
    }

    /// Signs a token that expires at `Self::expiry`, but never after `not_after`.
    pub fn issue(
        &self,
        subject: Subject<'_>,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<AccessToken, jsonwebtoken::errors::Error> {
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(self.signing_key().id().to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        // NumericDate has whole seconds (RFC 7519, section 2).
        let expires_at = self.expiry(now).min(not_after.whole_seconds());
        let claims = Claims {
            iss: &self.name,
            aud: &self.audience,
            sub: subject.user_id.to_string(),
            sid: subject.session_id.to_string(),
            jti: TokenId::new(now).to_string(),
            iat: now.as_secs(),
            exp: expires_at.as_secs(),
            email_verified: subject.email_verified,
            roles: subject.roles.iter().collect(),
        };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.encoding)?.into();
        Ok(AccessToken { jwt, expires_at })
    }

    /// When a token that is issued `now` expires, unless its session ends earlier.
    pub(super) fn expiry(&self, now: Timestamp) -> Timestamp {
        now.whole_seconds() + self.ttl
    }

    /// The user and the session of the token. `None` unless this service issued the token and
    /// it is valid `now`. Its session may have ended.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Option<(UserId, SessionId)> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let kid = header.kid.as_deref()?;
        let key = self.keys.iter().find(|key| key.id() == kid)?;
        // No extension is supported, so none may be critical (RFC 7515, section 4.1.11).
        if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return None;
        }
        let key = DecodingKey::from_secret(key.secret().expose_secret());
        let token = jsonwebtoken::decode::<PresentedClaims>(token, &key, &signature_only()).ok()?;
        let claims = token.claims;
        let expected = claims.iss == self.name && claims.aud == self.audience;
        if !expected || !claims.is_valid_at(now) || !claims.is_shorter_than(self.ttl) {
            return None;
        }
        Some((UserId::parse(&claims.sub)?, SessionId::parse(&claims.sid)?))
    }

    pub fn signing_key(&self) -> &SigningKey {
        &self.keys[0]
    }
}

impl PresentedClaims {
    /// Whether the token has not expired and is not from the future.
    fn is_valid_at(&self, now: Timestamp) -> bool {
        let latest = (now + CLOCK_SKEW).as_secs();
        now.as_secs() < self.exp && self.iat <= latest && self.nbf.is_none_or(|nbf| nbf <= latest)
    }

    /// Whether the token lives at most as long as one that this replica issues. Otherwise it was
    /// issued with another `ACCESS_TOKEN_TTL`, or forged with a leaked key.
    fn is_shorter_than(&self, ttl: Duration) -> bool {
        let life = u64::try_from(self.exp.saturating_sub(self.iat));
        life.is_ok_and(|seconds| seconds <= ttl.as_secs())
    }
}

fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}
