//! The routes of a signed-in user. The argument [`Claims`] protects a route, and [`Moderator`] one
//! that needs a role.

use std::sync::Arc;

use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{Client, Gateway, Shared, signed_in};
use crate::{error::Error, keys::Claims, proto::ChangePasswordRequest};

#[derive(Deserialize)]
pub(super) struct NewPassword {
    current_password: String,
    new_password: String,
}

pub(super) async fn me(claims: Claims) -> Response {
    let body = json!({"user_id": claims.sub, "session_id": claims.sid, "roles": claims.roles});
    Json(body).into_response()
}

/// Stands for the messages that users have reported.
pub(super) async fn moderation(Moderator(claims): Moderator) -> Response {
    Json(json!({"moderator": claims.sub, "reports": []})).into_response()
}

/// Ends the other sessions, and replaces the tokens of this one and the device token. It is not
/// retried: a retry would show the old password, which may be wrong by then.
pub(super) async fn change_password(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    _claims: Claims,
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

/// A signed-in user with the role `moderator`. A role that was taken away is still in the token
/// until it expires or is refreshed.
pub(super) struct Moderator(Claims);

impl FromRequestParts<Arc<Gateway>> for Moderator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let claims = Claims::from_request_parts(parts, gateway).await?;
        if !claims.has_role("moderator") {
            return Err(Error::MissingRole);
        }
        Ok(Self(claims))
    }
}

impl FromRequestParts<Arc<Gateway>> for Claims {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let token = access_token(&parts.headers).ok_or(Error::InvalidToken)?;
        gateway.keys.verify(token).await
    }
}
