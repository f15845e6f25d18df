//! Requests as most tests send them.

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use tonic::{Request, Status, transport::Channel};

/// The password of all accounts, unless a test gives another. The policy accepts it.
pub const PASSWORD: &str = "correct horse battery staple";

/// Without a session.
pub fn register(email: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    }
}

pub fn login(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    }
}

pub fn refresh(token: &str) -> proto::RefreshRequest {
    proto::RefreshRequest {
        refresh_token: token.to_owned(),
    }
}

pub fn logout(token: &str) -> proto::LogoutRequest {
    proto::LogoutRequest {
        refresh_token: token.to_owned(),
    }
}

/// From [`PASSWORD`].
pub fn change_password(new: &str) -> proto::ChangePasswordRequest {
    change_password_from(PASSWORD, new)
}

pub fn change_password_from(current: &str, new: &str) -> proto::ChangePasswordRequest {
    proto::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    }
}

pub fn end_session(id: &str) -> proto::EndSessionRequest {
    proto::EndSessionRequest {
        session_id: id.to_owned(),
    }
}

pub fn delete_account(password: &str) -> proto::DeleteAccountRequest {
    proto::DeleteAccountRequest {
        current_password: password.to_owned(),
    }
}

/// The value of the header `authorization` for this token.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A message with an internal token or an access token.
pub fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = bearer(token).parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Calls `GetSigningKey` with this header `authorization`.
pub async fn signing_keys(
    channel: Channel,
    authorization: Option<&str>,
) -> Result<proto::GetSigningKeyResponse, Status> {
    let mut request = Request::new(proto::GetSigningKeyRequest {});
    if let Some(value) = authorization {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", value.parse().expect("ASCII"));
    }
    let answer = AuthServiceClient::new(channel)
        .get_signing_key(request)
        .await?;
    Ok(answer.into_inner())
}
