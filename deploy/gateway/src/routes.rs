//! The HTTP side: `/register`, `/login`, `/refresh`, `/logout`, and `/me`, which needs an
//! access token.
//!
//! The page gets the access token and keeps it in memory. The refresh token goes into a
//! cookie. Scripts cannot read it (`HttpOnly`). It is sent by HTTPS only (`Secure`), no
//! subdomain can set it (`__Host-`), and requests that another site started do not carry it
//! (`SameSite=Strict`).

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    auth::{Auth, is_temporary, is_unreachable, retrying},
    error::Error,
    keys::{Claims, Keys},
    proto::{LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, TokenPair},
};

const REFRESH_COOKIE: &str = "__Host-refresh_token";

pub struct Gateway {
    pub auth: Auth,
    pub keys: Arc<Keys>,
}

type Shared = State<Arc<Gateway>>;
/// The peer's address. Behind a load balancer this is the balancer: use the address in
/// `x-forwarded-for` instead, but only the one that the balancer itself added.
type Client = ConnectInfo<SocketAddr>;

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
    #[serde(default)]
    device_name: String,
}

pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/register", post(register))
        .route("/login", post(login))
        .route("/refresh", post(refresh))
        .route("/logout", post(logout))
        .route("/me", get(me))
        .with_state(gateway)
}

async fn register(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    Json(given): Json<Credentials>,
) -> Result<Response, Error> {
    let message = RegisterRequest {
        email: given.email,
        password: given.password,
        start_session: true,
        device_name: given.device_name,
    };
    let request = gateway.auth.request(message, Some(client.ip()));
    let registered = gateway.auth.client().register(request).await?.into_inner();
    signed_in(StatusCode::CREATED, registered.tokens)
}

async fn login(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    Json(given): Json<Credentials>,
) -> Result<Response, Error> {
    let message = LoginRequest {
        email: given.email,
        password: given.password,
        device_name: given.device_name,
        device_token: String::new(),
    };
    let logged_in = retrying(is_unreachable, || {
        let request = gateway.auth.request(message.clone(), Some(client.ip()));
        let mut client = gateway.auth.client();
        async move { client.login(request).await }
    });
    signed_in(StatusCode::OK, logged_in.await?.tokens)
}

async fn refresh(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let refresh_token = refresh_token(&headers).ok_or(Error::InvalidToken)?;
    let message = RefreshRequest { refresh_token };
    let refreshed = retrying(is_temporary, || {
        let request = gateway.auth.request(message.clone(), Some(client.ip()));
        let mut client = gateway.auth.client();
        async move { client.refresh(request).await }
    });
    signed_in(StatusCode::OK, refreshed.await?.tokens)
}

/// Always deletes the cookie. The session ends only if the service can be reached.
async fn logout(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let ended = match refresh_token(&headers) {
        Some(refresh_token) => end_session(&gateway.auth, client, refresh_token).await,
        None => Ok(()),
    };
    let deleted = cookie("", 0).ok_or(Error::Unavailable)?;
    let answer = ended.map(|()| StatusCode::NO_CONTENT);
    Ok(([(SET_COOKIE, deleted)], answer).into_response())
}

async fn end_session(auth: &Auth, client: SocketAddr, refresh_token: String) -> Result<(), Error> {
    let message = LogoutRequest { refresh_token };
    let done = retrying(is_temporary, || {
        let request = auth.request(message.clone(), Some(client.ip()));
        let mut client = auth.client();
        async move { client.logout(request).await }
    });
    match done.await {
        // An invalid token has no session to end.
        Err(status) if status.code() != tonic::Code::Unauthenticated => Err(status.into()),
        _ => Ok(()),
    }
}

/// A protected route: the argument [`Claims`] protects it.
async fn me(claims: Claims) -> Response {
    Json(json!({"user_id": claims.sub, "session_id": claims.sid})).into_response()
}

impl FromRequestParts<Arc<Gateway>> for Claims {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let value = parts.headers.get(AUTHORIZATION);
        let value = value.and_then(|value| value.to_str().ok());
        let credentials = value.and_then(|value| value.split_once(' '));
        match credentials {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                gateway.keys.verify(token.trim()).await
            }
            _ => Err(Error::InvalidToken),
        }
    }
}

fn signed_in(status: StatusCode, tokens: Option<TokenPair>) -> Result<Response, Error> {
    let tokens = tokens.ok_or(Error::Unavailable)?;
    let expires_at = |at: Option<prost_types::Timestamp>| at.map_or(0, |at| at.seconds);
    let expires = expires_at(tokens.refresh_token_expires_at);
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let max_age = expires.saturating_sub(i64::try_from(now).unwrap_or(0));
    let cookie = cookie(&tokens.refresh_token, max_age).ok_or(Error::Unavailable)?;
    let body = json!({
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_at": expires_at(tokens.access_token_expires_at),
    });
    let headers = [
        (SET_COOKIE, cookie),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((status, headers, Json(body)).into_response())
}

fn cookie(token: &str, max_age: i64) -> Option<HeaderValue> {
    let attributes = "Path=/; HttpOnly; Secure; SameSite=Strict";
    let text = format!("{REFRESH_COOKIE}={token}; Max-Age={max_age}; {attributes}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn refresh_token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|line| line.split("; "))
        .filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(name, value)| *name == REFRESH_COOKIE && !value.is_empty());
    found.map(|(_, token)| token.to_owned())
}
