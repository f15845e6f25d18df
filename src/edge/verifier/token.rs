//! The text of a token (RFC 7515, compact serialization), and what it says.
//!
//! It accepts only what the service writes: base64 without padding and with one spelling for each
//! value, and ids in lower case. Strings are borrowed from a buffer, so that a verification
//! allocates nothing but the list of roles.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Deserializer, de::Error as _};
use uuid::{Uuid, fmt::Hyphenated};

use crate::Claims;

/// With the most and longest roles, a token of the service has 3 KiB. A longer text would take time
/// to hash.
const LONGEST: usize = 8 * 1024;

/// Has room for any part of a token. Each part in turn is decoded into the same buffer.
pub const BUFFER: [u8; LONGEST / 4 * 3] = [0; _];

/// A token. The header and the payload are still encoded.
pub struct Parts<'a> {
    /// The header and the payload, as they were signed.
    pub signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: Signature,
}

/// The bytes, and how many of them there are. The decoder needs a multiple of three.
struct Signature([u8; 33], usize);

#[derive(Deserialize)]
pub struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    pub kid: Cow<'a, str>,
    #[serde(default, deserialize_with = "unsupported", rename = "crit")]
    _crit: (),
}

/// The claims that are checked or returned. The service never writes `nbf`, but another issuer
/// with the same key may.
#[derive(Deserialize)]
pub struct Payload<'a> {
    #[serde(borrow)]
    pub iss: Cow<'a, str>,
    #[serde(borrow)]
    pub aud: Cow<'a, str>,
    sub: &'a str,
    sid: &'a str,
    pub iat: u64,
    pub nbf: Option<u64>,
    pub exp: u64,
    email_verified: Option<bool>,
    #[serde(default)]
    roles: Vec<String>,
}

impl<'a> Parts<'a> {
    pub fn split(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        // Another dot would be in the payload, and is not base64.
        let (header, payload) = signed.split_once('.')?;
        Some(Self {
            signed,
            header,
            payload,
            signature: Signature::decode(signature)?,
        })
    }

    pub fn signature(&self) -> &[u8] {
        let Signature(bytes, length) = &self.signature;
        &bytes[..*length]
    }

    /// Of an access token (RFC 9068, section 2.1) with HS256.
    pub fn header<'b>(&self, buffer: &'b mut [u8]) -> Option<Header<'b>> {
        let header: Header = json(self.header, buffer)?;
        (header.alg == "HS256" && header.typ == "at+jwt").then_some(header)
    }

    /// To be read only after the signature was verified.
    pub fn payload<'b>(&self, buffer: &'b mut [u8]) -> Option<Payload<'b>> {
        json(self.payload, buffer)
    }
}

impl Signature {
    fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; _];
        let length = BASE64URL.decode_slice(text, &mut bytes).ok()?;
        Some(Self(bytes, length))
    }
}

impl Payload<'_> {
    pub fn into_claims(self) -> Option<Claims> {
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Some(Claims {
            user_id: uuid(self.sub)?,
            session_id: uuid(self.sid)?,
            issued_at: time(self.iat)?,
            expires_at: time(self.exp)?,
            email_verified: self.email_verified,
            roles: self.roles,
        })
    }
}

/// A JSON object. Serde would also accept an array of the values.
fn json<'b, T: Deserialize<'b>>(part: &str, buffer: &'b mut [u8]) -> Option<T> {
    let length = BASE64URL.decode_slice(part, buffer).ok()?;
    let text = &buffer[..length];
    let is_object = text.first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(text).ok())?
}

/// With hyphens and in lower case, so that an id has one spelling.
fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    let own = id.hyphenated();
    (text == own.encode_lower(&mut [0; Hyphenated::LENGTH])).then_some(id)
}

/// No extension is supported, so none may be critical (RFC 7515, section 4.1.11).
fn unsupported<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(D::Error::custom("an extension"))
}
