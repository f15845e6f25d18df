//! The routes of a signed-in user. The argument [`User`] protects a route, and [`Moderator`] one
//! that needs a role.

use std::sync::Arc;

use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
    response::{IntoResponse, Response},
};
use realchat_verifier::Claims;
use serde::Deserialize;
use serde_json::json;

use super::{Client, Gateway, Shared, signed_in};
use crate::{error::Error, proto::ChangePasswordRequest};

#[derive(Deserialize)]
pub(super) struct NewPassword {
    current_password: String,
    new_password: String,
}

pub(super) async fn me(User(claims): User) -> Response {
    let body = json!({
        "user_id": claims.user_id.to_string(),
        "session_id": claims.session_id.to_string(),
        "roles": claims.roles,
    });
    Json(body).into_response()
}

/// Stands for the messages that users have reported.
pub(super) async fn moderation(Moderator(claims): Moderator) -> Response {
    Json(json!({"moderator": claims.user_id.to_string(), "reports": []})).into_response()
}

/// Ends the other sessions, and replaces the tokens of this one and the device token. It is not
/// retried: a retry would show the old password, which may be wrong by then.
pub(super) async fn change_password(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    _user: User,
    headers: HeaderMap,
    Json(given): Json<NewPassword>,
) -> Result<Response, Error> {
    let message = ChangePasswordRequest {
        current_password: given.current_password,
        new_password: given.new_password,
    };
    let token = access_token(&headers).ok_or(Error::InvalidToken)?;
    let request = gateway.auth.request_of(token, message, Some(client.ip()));
    let changed = gateway.auth.account().change_password(request).await?;
    let changed = changed.into_inner();
    signed_in(StatusCode::OK, changed.tokens, Some(&changed.device_token))
}

fn access_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A signed-in user.
pub(super) struct User(Claims);

/// A signed-in user with the role `moderator`. A role that was taken away is still in the token
/// until it expires or is refreshed.
pub(super) struct Moderator(Claims);

impl FromRequestParts<Arc<Gateway>> for Moderator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let User(claims) = User::from_request_parts(parts, gateway).await?;
        if !claims.roles.iter().any(|role| role == "moderator") {
            return Err(Error::MissingRole);
        }
        Ok(Self(claims))
    }
}

impl FromRequestParts<Arc<Gateway>> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let token = access_token(&parts.headers).ok_or(Error::InvalidToken)?;
        gateway.verifier.verify(token).map(Self)
    }
}
