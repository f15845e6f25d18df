//! The keys of access tokens, and the lifetimes of tokens and sessions.

use std::{ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::{
    Args, Problem, data_key, events,
    reader::Reader,
    secret_text, throttle,
    value::{DAY, duration, each, one_of, text},
    variable::{Variable, secret, value, variables},
};
use crate::{
    auth::{EmailVerification, Lifetimes, Settings, SigningSecrets},
    model::{DataKeys, DataSecrets},
};

pub(super) type Key = SecretSlice<u8>;

variables! {
    "Tokens"

    /// Key that signs access tokens: text of at least 32 bytes without a comma, or base64:..
    JWT_SECRET: Key = secret("SECRET", key).when_unset("generated when DATABASE_URL is not set");
    /// Key that will sign next: already published, not used yet
    JWT_NEXT_SECRET: Key = secret("SECRET", key).when_unset("none");
    /// Keys that no longer sign but still verify, comma-separated
    JWT_PREVIOUS_SECRETS: Vec<Key> = secret("SECRETS", keys).when_unset("none");
    /// The claim iss
    JWT_ISSUER: String = value("TEXT", text).default("realchat-auth");
    /// The claim aud
    JWT_AUDIENCE: String = value("TEXT", text).default("realchat");
    /// How long an access token is valid, whole seconds, 1s to 30d
    ACCESS_TOKEN_TTL: Duration = value("DURATION", access_token_ttl).default("60m");
    /// How long a refresh token is valid, up to SESSION_MAX_AGE
    REFRESH_TOKEN_TTL: Duration = value("DURATION", |text| duration(text, LIFE)).default("24h");
    /// How long a session lives however often it is refreshed
    SESSION_MAX_AGE: Duration = value("DURATION", |text| duration(text, LIFE)).default("30d");
    /// How long a lost refresh may be repeated, below REFRESH_TOKEN_TTL; 0s: never
    REFRESH_RETRY_WINDOW: Duration = value("DURATION", |text| duration(text, WINDOW)).default("30s");
    /// How long after its last login a device is known, whole days, 1day to 3650days
    DEVICE_TOKEN_TTL: Duration = value("DURATION", device_token_ttl).default("90d");
    /// off, optional (Register asks for a mail; tokens say whether the address is verified) or
    /// required (also, no login before the address is verified)
    EMAIL_VERIFICATION: EmailVerification = value("MODE", email_verification).default("off");
}

/// HS256 needs a key as long as its hash (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;
/// Ten years: longer is surely a mistake, and no sum of times comes near an overflow.
const LIFE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(10 * 365 * 24);
const WINDOW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

fn email_verification(text: &str) -> Result<EmailVerification, String> {
    let modes = [
        ("off", EmailVerification::Off),
        ("optional", EmailVerification::Optional),
        ("required", EmailVerification::Required),
    ];
    one_of(text, &modes)
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<(Settings, DataSecrets)> {
    let secrets = read_secrets(reader);
    let data_secrets = data_key::read(reader);
    let data_keys = data_secrets.as_ref().map(DataKeys::new);
    let settings = Settings {
        issuer: reader.value(&JWT_ISSUER),
        audience: reader.value(&JWT_AUDIENCE),
        lifetimes: read_lifetimes(reader),
        throttle: throttle::read(reader),
        email_verification: reader.value(&EMAIL_VERIFICATION),
        session_events: events::read(reader),
        secrets: secrets?,
        data_keys: Arc::new(data_keys?),
    };
    Some(settings).zip(data_secrets)
}

/// The keys alone, for `keys jwks`. No other variable is read, and nothing is created.
pub fn signing_secrets(args: &Args, base: &Path) -> Result<SigningSecrets, Vec<Problem>> {
    let mut reader = Reader::new(args, base);
    let secrets = read_secrets(&mut reader);
    if reader.lacks_secrets() {
        let what = "is not set, and the embedded default has made none yet";
        reader.problem(JWT_SECRET.name(), what);
    }
    reader.finish(secrets).map(|(secrets, _)| secrets)
}

fn read_secrets(reader: &mut Reader<'_>) -> Option<SigningSecrets> {
    let current = own_key(reader, &JWT_SECRET, "jwt-secret");
    let next = reader.optional(&JWT_NEXT_SECRET);
    let previous = reader.optional(&JWT_PREVIOUS_SECRETS).unwrap_or_default();
    let secrets = SigningSecrets {
        current: current?,
        next,
        previous,
    };
    refuse_doubles(&secrets, reader);
    Some(secrets)
}

/// A key that the embedded default generates in `file`. With a `DATABASE_URL` it is required.
pub(super) fn own_key(
    reader: &mut Reader<'_>,
    variable: &Variable<Key>,
    file: &str,
) -> Option<Key> {
    if reader.is_set(&variable.declaration) {
        reader.optional(variable)
    } else if reader.is_embedded() {
        let encode = |bytes| format!("base64:{}", BASE64_STANDARD.encode(bytes));
        reader.embedded_secret(variable, file, encode, key)
    } else {
        reader.problem(variable.name(), "is required when DATABASE_URL is set");
        None
    }
}

pub(super) fn key(text: &str) -> Result<Key, String> {
    let bytes = match text.strip_prefix("base64:") {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "is not valid base64 (standard alphabet, padded) after base64:")?,
        None if text.contains(',') => return Err("must not contain a comma".into()),
        None if text.to_ascii_lowercase().starts_with("base64") => {
            return Err("must begin with base64: in lower case, or with another word".into());
        }
        None if text.contains("base64:") => {
            return Err("has text before base64: leave it out".into());
        }
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < MIN_KEY_BYTES {
        return Err(format!("must have at least {MIN_KEY_BYTES} bytes"));
    }
    secret_text::check_variety(&bytes)?;
    Ok(bytes.into())
}

pub(super) fn keys(text: &str) -> Result<Vec<Key>, String> {
    each(text, |entry| {
        secret_text::check(entry)?;
        key(entry)
    })
}

pub(super) fn is_same(one: &Key, other: &Key) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// A key that is given twice would make its id ambiguous.
fn refuse_doubles(secrets: &SigningSecrets, reader: &mut Reader<'_>) {
    let (current, next, previous) = (&secrets.current, &secrets.next, &secrets.previous);
    if next.as_ref().is_some_and(|next| is_same(next, current)) {
        reader.problem(JWT_NEXT_SECRET.name(), "is the same key as JWT_SECRET");
    }
    let is_double = |(index, key): &(usize, &Key)| {
        let mut others = previous[..*index].iter().chain(next).chain([current]);
        others.any(|other| is_same(key, other))
    };
    if let Some((index, _)) = previous.iter().enumerate().find(is_double) {
        let what = format!("entry {} is a key that is given twice", index + 1);
        reader.problem(JWT_PREVIOUS_SECRETS.name(), what);
    }
}

fn read_lifetimes(reader: &mut Reader<'_>) -> Lifetimes {
    let lifetimes = Lifetimes {
        access_token: reader.value(&ACCESS_TOKEN_TTL),
        refresh_token: reader.value(&REFRESH_TOKEN_TTL),
        session: reader.value(&SESSION_MAX_AGE),
        retry_window: reader.value(&REFRESH_RETRY_WINDOW),
        device_token: reader.value(&DEVICE_TOKEN_TTL),
    };
    reader.require_order(
        lifetimes.retry_window < lifetimes.refresh_token,
        &REFRESH_RETRY_WINDOW,
        "must be shorter than",
        &REFRESH_TOKEN_TTL,
    );
    reader.require_order(
        lifetimes.refresh_token <= lifetimes.session,
        &REFRESH_TOKEN_TTL,
        "must not be longer than",
        &SESSION_MAX_AGE,
    );
    lifetimes
}

fn access_token_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text, Duration::from_secs(1)..=30 * DAY)?;
    let is_whole = ttl.subsec_nanos() == 0;
    is_whole
        .then_some(ttl)
        .ok_or_else(|| "must be whole seconds".into())
}

/// A device token has the day of its login, not the time.
fn device_token_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text, DAY..=*LIFE.end())?;
    let is_whole = ttl.as_secs().is_multiple_of(DAY.as_secs()) && ttl.subsec_nanos() == 0;
    is_whole
        .then_some(ttl)
        .ok_or_else(|| "must be whole days".into())
}
