//! `AuthService`: handlers, and the conversion of their messages.

use prost_types::Duration as ProtoDuration;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::{Handlers, KEYS_MAX_AGE, audited_call::AuditedCall, convert};
use crate::{
    auth::{Device, Error, Issuer, LoggedIn, Login, Register, Registered, SigningKey},
    model::{DeviceToken, Email},
    proto::{self, auth_service_server::AuthService},
    telemetry::audit::Event,
};

#[tonic::async_trait]
impl AuthService for Handlers {
    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let mut audited = self.audited(Event::Register, &request);
        let reply = async {
            self.note_email(&request.get_ref().email, &mut audited);
            let (call, _permit) = audited.password_call(&request)?;
            let register = parse_register(request.into_inner())?;
            Ok(self.auth.register(register, &call).await?.into())
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn login(
        &self,
        request: Request<proto::LoginRequest>,
    ) -> Result<Response<proto::LoginResponse>, Status> {
        let mut audited = self.audited(Event::Login, &request);
        let reply = async {
            self.note_email(&request.get_ref().email, &mut audited);
            let (call, _permit) = audited.password_call(&request)?;
            let login = parse_login(request.into_inner())?;
            Ok(self.auth.login(login, &call).await?.into())
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<proto::RefreshResponse>, Status> {
        let audited = self.audited(Event::Refresh, &request);
        let reply = async {
            let call = audited.call(&request);
            let token = request.into_inner().refresh_token;
            let token = convert::refresh_token(token, &self.auth)?;
            let tokens = self.auth.refresh(token, &call).await?;
            let tokens = Some(tokens.into());
            Ok(proto::RefreshResponse { tokens })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn logout(
        &self,
        request: Request<proto::LogoutRequest>,
    ) -> Result<Response<proto::LogoutResponse>, Status> {
        let audited = self.audited(Event::Logout, &request);
        let reply = async {
            let call = audited.call(&request);
            let token = request.into_inner().refresh_token;
            let token = convert::refresh_token(token, &self.auth)?;
            self.auth.logout(token, &call).await?;
            Ok(proto::LogoutResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn get_signing_key(
        &self,
        request: Request<proto::GetSigningKeyRequest>,
    ) -> Result<Response<proto::GetSigningKeyResponse>, Status> {
        let audited = self.audited(Event::SigningKey, &request);
        let allowed = audited.require_keys(&request, self.plaintext_keys);
        let reply = allowed.map(|()| {
            audited.ok();
            self.auth.issuer().into()
        });
        audited.end(reply)
    }
}

impl Handlers {
    /// Puts a hash of the message's address into the audit lines of the call. A malformed one
    /// has none.
    pub(super) fn note_email(&self, email: &str, audited: &mut AuditedCall<'_>) {
        if let Ok(email) = Email::parse(email) {
            audited.at(self.fingerprint("e-mail", email.as_str().as_bytes()));
        }
    }
}

fn parse_register(message: proto::RegisterRequest) -> Result<Register, Error> {
    let password = convert::password("password", message.password);
    let email = convert::email("email", &message.email)?;
    Ok(Register {
        email,
        password: password?,
        start_session: message.start_session,
        device_name: convert::device_name(message.device_name)?,
        locale: convert::locale(message.locale)?,
    })
}

fn parse_login(message: proto::LoginRequest) -> Result<Login, Error> {
    let password = convert::password("password", message.password);
    let email = convert::required("email", &message.email)?;
    Ok(Login {
        email: Email::parse(email).ok(),
        password: password?,
        device: Device {
            name: convert::device_name(message.device_name)?,
            token: DeviceToken::parse(&message.device_token),
        },
    })
}

impl From<Registered> for proto::RegisterResponse {
    fn from(registered: Registered) -> Self {
        let account = Self {
            user_id: registered.user_id.to_string(),
            created_at: Some(registered.created_at.into()),
            ..Self::default()
        };
        match registered.session {
            None => account,
            Some(session) => Self {
                tokens: Some(session.tokens.into()),
                session_id: session.id.to_string(),
                device_token: session.device_token.expose(),
                ..account
            },
        }
    }
}

impl From<LoggedIn> for proto::LoginResponse {
    fn from(logged_in: LoggedIn) -> Self {
        Self {
            user_id: logged_in.user_id.to_string(),
            session_id: logged_in.session.id.to_string(),
            tokens: Some(logged_in.session.tokens.into()),
            device_token: logged_in.session.device_token.expose(),
        }
    }
}

impl From<&Issuer> for proto::GetSigningKeyResponse {
    fn from(issuer: &Issuer) -> Self {
        Self {
            signing_key: Some(issuer.signing_key().into()),
            verification_keys: issuer.keys.iter().map(Into::into).collect(),
            issuer: issuer.name.clone(),
            audience: issuer.audience.clone(),
            access_token_ttl: ProtoDuration::try_from(issuer.ttl).ok(),
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
