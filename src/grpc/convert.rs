//! Messages to requests, and results to messages. Proto types end here.

use prost_types::Duration as ProtoDuration;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::{
    auth::{Error, Issuer, LoggedIn, Login, Register, Registered, SigningKey, TokenPair},
    model::{Account, DeviceName, Email, LiveSession, RefreshToken, SessionId},
    password::Password,
    proto,
};

/// How long a gateway may cache the keys: a key that was published this long ago is known
/// everywhere.
const KEYS_MAX_AGE: ProtoDuration = ProtoDuration {
    seconds: 300,
    nanos: 0,
};

pub(super) fn register(message: proto::RegisterRequest) -> Result<Register, Error> {
    let password = password("password", message.password);
    let email = required("email", &message.email)?;
    let email = Email::parse(email).map_err(|problem| invalid("email", problem))?;
    Ok(Register {
        email,
        password: password?,
        start_session: message.start_session,
        device_name: device_name(message.device_name)?,
    })
}

pub(super) fn login(message: proto::LoginRequest) -> Result<Login, Error> {
    let password = password("password", message.password);
    let email = required("email", &message.email)?;
    Ok(Login {
        email: Email::parse(email).ok(),
        password: password?,
        device_name: device_name(message.device_name)?,
    })
}

/// The current password and the new one.
pub(super) fn change_password(
    message: proto::ChangePasswordRequest,
) -> Result<(Password, Password), Error> {
    let current = password("current_password", message.current_password);
    let new = password("new_password", message.new_password);
    Ok((current?, new?))
}

pub(super) fn refresh_token(text: String) -> Result<RefreshToken, Error> {
    let text = Zeroizing::new(text);
    RefreshToken::parse(required("refresh_token", &text)?).ok_or(Error::InvalidToken)
}

pub(super) fn password(field: &'static str, text: String) -> Result<Password, Error> {
    let text = Zeroizing::new(text);
    required(field, &text)?;
    Ok(Password::new(text))
}

pub(super) fn session_id(text: &str) -> Result<SessionId, Error> {
    let field = "session_id";
    SessionId::parse(required(field, text)?).ok_or_else(|| invalid(field, "must be a UUID"))
}

fn device_name(text: String) -> Result<Option<DeviceName>, Error> {
    DeviceName::parse(text).map_err(|problem| invalid("device_name", problem))
}

fn required<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Error> {
    if text.is_empty() {
        return Err(invalid(field, "must not be empty"));
    }
    Ok(text)
}

fn invalid(field: &'static str, problem: &str) -> Error {
    Error::InvalidArgument {
        field,
        problem: problem.to_owned(),
    }
}

impl From<Registered> for proto::RegisterResponse {
    fn from(registered: Registered) -> Self {
        let (session_id, tokens) = match registered.session {
            Some(session) => (session.id.to_string(), Some(session.tokens.into())),
            None => (String::new(), None),
        };
        Self {
            user_id: registered.user_id.to_string(),
            created_at: Some(registered.created_at.into()),
            tokens,
            session_id,
        }
    }
}

impl From<LoggedIn> for proto::LoginResponse {
    fn from(logged_in: LoggedIn) -> Self {
        Self {
            user_id: logged_in.user_id.to_string(),
            session_id: logged_in.session.id.to_string(),
            tokens: Some(logged_in.session.tokens.into()),
        }
    }
}

impl From<Account> for proto::GetAccountResponse {
    fn from(account: Account) -> Self {
        Self {
            user_id: account.user_id.to_string(),
            email: account.email,
            created_at: Some(account.created_at.into()),
            password_changed_at: Some(account.password_changed_at.into()),
        }
    }
}

pub(super) fn sessions(
    sessions: Vec<LiveSession>,
    current: SessionId,
) -> proto::ListSessionsResponse {
    let sessions = sessions.into_iter().map(|session| proto::Session {
        session_id: session.id.to_string(),
        device_name: session.device_name.unwrap_or_default(),
        created_at: Some(session.created_at.into()),
        last_used_at: Some(session.rotated_at.into()),
        expires_at: Some(session.expires_at.into()),
        current: session.id == current,
    });
    proto::ListSessionsResponse {
        sessions: sessions.collect(),
    }
}

impl From<TokenPair> for proto::RefreshResponse {
    fn from(tokens: TokenPair) -> Self {
        Self {
            tokens: Some(tokens.into()),
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

impl From<&Issuer> for proto::GetSigningKeyResponse {
    fn from(issuer: &Issuer) -> Self {
        Self {
            signing_key: Some(issuer.signing_key().into()),
            verification_keys: issuer.verification_keys().iter().map(Into::into).collect(),
            issuer: issuer.name().to_owned(),
            audience: issuer.audience().to_owned(),
            access_token_ttl: ProtoDuration::try_from(issuer.ttl()).ok(),
            max_age: Some(KEYS_MAX_AGE),
        }
    }
}

impl From<&SigningKey> for proto::SigningKey {
    fn from(key: &SigningKey) -> Self {
        Self {
            key_id: key.id().to_owned(),
            algorithm: "HS256".to_owned(),
            secret: key.secret().expose_secret().to_vec(),
        }
    }
}
