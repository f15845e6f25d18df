//! The HTTP side: `/register`, `/login`, `/refresh`, `/logout`; and `/me` and `/password`, which
//! need an access token.
//!
//! The page gets the access token and keeps it in memory. The refresh token and the device token
//! go into [`cookies`].

mod account;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, SET_COOKIE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    auth::{Auth, is_temporary, is_unreachable, retrying},
    cookies::{self, DEVICE_MAX_AGE},
    error::Error,
    keys::Keys,
    proto::{LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, TokenPair},
};

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
        .route("/me", get(account::me))
        .route("/password", post(account::change_password))
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
        ..RegisterRequest::default()
    };
    let request = gateway.auth.request(message, Some(client.ip()));
    let registered = gateway.auth.client().register(request).await?.into_inner();
    let device = &registered.device_token;
    signed_in(StatusCode::CREATED, registered.tokens, Some(device))
}

async fn login(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Result<Response, Error> {
    let message = LoginRequest {
        email: given.email,
        password: given.password,
        device_name: given.device_name,
        device_token: cookies::DEVICE.get(&headers).unwrap_or_default(),
    };
    let logged_in = retrying(is_unreachable, || {
        let request = gateway.auth.request(message.clone(), Some(client.ip()));
        let mut client = gateway.auth.client();
        async move { client.login(request).await }
    });
    let logged_in = logged_in.await?;
    let device = &logged_in.device_token;
    signed_in(StatusCode::OK, logged_in.tokens, Some(device))
}

async fn refresh(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let refresh_token = cookies::REFRESH_TOKEN.get(&headers);
    let refresh_token = refresh_token.ok_or(Error::InvalidToken)?;
    let message = RefreshRequest { refresh_token };
    let refreshed = retrying(is_temporary, || {
        let request = gateway.auth.request(message.clone(), Some(client.ip()));
        let mut client = gateway.auth.client();
        async move { client.refresh(request).await }
    });
    signed_in(StatusCode::OK, refreshed.await?.tokens, None)
}

/// Always deletes the cookie of the session, which ends only if the service can be reached. The
/// device stays a known one.
async fn logout(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let ended = match cookies::REFRESH_TOKEN.get(&headers) {
        Some(refresh_token) => end_session(&gateway.auth, client, refresh_token).await,
        None => Ok(()),
    };
    let deleted = cookies::REFRESH_TOKEN.set("", 0);
    let deleted = deleted.ok_or(Error::Unavailable)?;
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

/// The page gets the access token, and the browser the other tokens as cookies.
fn signed_in(
    status: StatusCode,
    tokens: Option<TokenPair>,
    device_token: Option<&str>,
) -> Result<Response, Error> {
    let tokens = tokens.ok_or(Error::Unavailable)?;
    let expires_at = |at: Option<prost_types::Timestamp>| at.map_or(0, |at| at.seconds);
    let expires = expires_at(tokens.refresh_token_expires_at);
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let max_age = expires.saturating_sub(i64::try_from(now).unwrap_or(0));
    let session = cookies::REFRESH_TOKEN.set(&tokens.refresh_token, max_age);
    let device = device_token.map(|token| cookies::DEVICE.set(token, DEVICE_MAX_AGE));
    let cookies = [Some(session), device].into_iter().flatten();
    let cookies: Option<Vec<_>> = cookies.collect();
    let body = json!({
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_at": expires_at(tokens.access_token_expires_at),
    });
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies.ok_or(Error::Unavailable)? {
        headers.append(SET_COOKIE, cookie);
    }
    Ok(response)
}
