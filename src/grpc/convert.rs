//! The fields that several messages share: proto types to domain types, and back.

use std::ops::RangeInclusive;

use prost_types::Timestamp as ProtoTimestamp;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::{
    auth::{Auth, Error, TokenPair},
    model::{
        DeviceName, Email, LiveSession, Locale, MailToken, RefreshToken, SessionId, Timestamp,
        UserId,
    },
    password::Password,
    proto,
};

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z (`google.protobuf.Timestamp`).
const SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(super) fn refresh_token(text: String, auth: &Auth) -> Result<RefreshToken, Error> {
    let text = Zeroizing::new(text);
    let token = auth.parse_refresh_token(required("refresh_token", &text)?);
    token.ok_or(Error::InvalidToken)
}

pub(super) fn password(field: &'static str, text: String) -> Result<Password, Error> {
    let text = Zeroizing::new(text);
    required(field, &text)?;
    Ok(Password::new(text))
}

pub(super) fn session_id(text: &str) -> Result<SessionId, Error> {
    let field = "session_id";
    SessionId::parse(required(field, text)?).ok_or_else(|| Error::invalid(field, "must be a UUID"))
}

pub(super) fn user_id(text: &str) -> Result<UserId, Error> {
    let field = "user_id";
    UserId::parse(required(field, text)?).ok_or_else(|| Error::invalid(field, "must be a UUID"))
}

pub(super) fn time(
    field: &'static str,
    time: Option<ProtoTimestamp>,
) -> Result<Option<Timestamp>, Error> {
    let parsed = time.map(moment).transpose();
    parsed.map_err(|problem| Error::invalid(field, problem))
}

/// A time in whole microseconds, from the year 1 to 9999 as in RFC 3339.
pub(super) fn moment(time: ProtoTimestamp) -> Result<Timestamp, &'static str> {
    if !SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        return Err("is not a valid time");
    }
    let micros = time.seconds.saturating_mul(1_000_000) + i64::from(time.nanos / 1000);
    Ok(Timestamp::from_micros(micros))
}

pub(super) fn device_name(text: String) -> Result<Option<DeviceName>, Error> {
    DeviceName::parse(text).map_err(|problem| Error::invalid("device_name", problem))
}

/// A new address.
pub(super) fn email(field: &'static str, text: &str) -> Result<Email, Error> {
    let email = Email::parse(required(field, text)?);
    email.map_err(|problem| Error::invalid(field, problem))
}

pub(super) fn locale(text: String) -> Result<Option<Locale>, Error> {
    Locale::parse(text).map_err(|problem| Error::invalid("locale", problem))
}

pub(super) fn mail_token(field: &'static str, text: String) -> Result<MailToken, Error> {
    let text = Zeroizing::new(text);
    MailToken::parse(required(field, &text)?).ok_or(Error::InvalidToken)
}

pub(super) fn required<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Error> {
    if text.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    Ok(text)
}

/// A session that is not the caller's own.
impl From<LiveSession> for proto::Session {
    fn from(session: LiveSession) -> Self {
        Self {
            session_id: session.id.to_string(),
            device_name: session.device_name.unwrap_or_default(),
            created_at: Some(session.created_at.into()),
            last_used_at: Some(session.rotated_at.into()),
            expires_at: Some(session.expires_at.into()),
            current: false,
        }
    }
}

impl From<TokenPair> for proto::TokenPair {
    fn from(tokens: TokenPair) -> Self {
        Self {
            access_token: tokens.access_token.jwt.expose_secret().to_owned(),
            token_type: "Bearer".to_owned(),
            access_token_expires_at: Some(tokens.access_token.expires_at.into()),
            refresh_token: tokens.refresh_token.expose().expose_secret().to_owned(),
            refresh_token_expires_at: Some(tokens.refresh_token_expires_at.into()),
        }
    }
}
