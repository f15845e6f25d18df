//! The fields that several messages share: proto types to domain types, and back.

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::{
    auth::{Auth, Error, TokenPair},
    model::{DeviceName, Email, Locale, MailToken, RefreshToken, SessionId},
    password::Password,
    proto,
};

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
