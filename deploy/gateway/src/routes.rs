//! The HTTP side: `/register`, `/login`, `/refresh`, `/logout`; `/me` and `/password`, which
//! need an access token; and `/moderation`, which needs the role `moderator` in it.
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
    auth::Auth,
    calls, cookies,
    error::Error,
    pages,
    proto::{LoginRequest, RegisterRequest, TokenPair},
    verifier::Verifier,
};

pub struct Gateway {
    pub auth: Auth,
    pub verifier: Arc<Verifier>,
}

pub(crate) type Shared = State<Arc<Gateway>>;
/// The peer's address. Behind a load balancer this is the balancer: use the address in
/// `x-forwarded-for` instead, but only the one that the balancer itself added.
pub(crate) type Client = ConnectInfo<SocketAddr>;

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
        .route("/moderation", get(account::moderation))
        .route("/password", post(account::change_password))
        .merge(pages::router(&gateway))
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
    match registered.tokens {
        Some(tokens) => signed_in(StatusCode::CREATED, Some(tokens), Some(device)),
        // The address must be verified first: a mail is on its way.
        None => Ok((StatusCode::CREATED, Json(json!({}))).into_response()),
    }
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
    let logged_in = calls::login(&gateway.auth, client.ip(), message).await?;
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
    let refreshed = calls::refresh(&gateway.auth, client.ip(), refresh_token);
    signed_in(StatusCode::OK, refreshed.await?, None)
}

/// Always deletes the cookie of the session, which ends only if the service can be reached. The
/// device stays a known one.
async fn logout(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let ended = match cookies::REFRESH_TOKEN.get(&headers) {
        Some(token) => calls::logout(&gateway.auth, client.ip(), token).await,
        None => Ok(()),
    };
    let deleted = cookies::REFRESH_TOKEN.delete();
    let deleted = deleted.ok_or(Error::Unavailable)?;
    let answer = ended.map(|()| StatusCode::NO_CONTENT).map_err(Error::from);
    Ok(([(SET_COOKIE, deleted)], answer).into_response())
}

/// The page gets the access token, and the browser the other tokens as cookies.
fn signed_in(
    status: StatusCode,
    tokens: Option<TokenPair>,
    device_token: Option<&str>,
) -> Result<Response, Error> {
    let tokens = tokens.ok_or(Error::Unavailable)?;
    let cookies = cookies::of_session(&tokens, device_token).ok_or(Error::Unavailable)?;
    let body = json!({
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_at": tokens.access_token_expires_at.map_or(0, |at| at.seconds),
    });
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    Ok(response)
}
