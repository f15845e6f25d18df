//! The session of the pages. The access token is in a cookie as well, because no script keeps it.
//!
//! [`require`] verifies it without a call, and exchanges the refresh token shortly before it
//! expires.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::SET_COOKIE, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use realchat_verifier::Claims;
use tonic::{Code, Request as Call, Status};

use super::{failure::Failure, notice::Notice, view, visitor::Visitor};
use crate::{
    auth::Auth,
    calls,
    cookies::{self, ACCESS_TOKEN, DEVICE, DEVICE_MAX_AGE, NOTICE, REFRESH_TOKEN},
    error::Error,
    proto::TokenPair,
    routes::{Client, Gateway, Shared},
};

/// The service must accept the access token too: by its own clock, and after a form that is slow to
/// arrive. A refused token looks like a session that has ended.
const MIN_TIME_LEFT: Duration = Duration::from_mins(1);

/// The user of a page that [`require`] protects.
#[derive(Clone)]
pub struct SignedIn {
    pub access_token: String,
    pub claims: Arc<Claims>,
}

impl SignedIn {
    /// A call of the user: see [`Auth::request_of`].
    pub fn request<T>(&self, auth: &Auth, message: T, visitor: &Visitor) -> Call<T> {
        auth.request_of(&self.access_token, message, visitor.address)
    }

    /// The time until the access token expires, by this machine's clock.
    fn time_left(&self) -> Duration {
        let left = self.claims.expires_at.duration_since(SystemTime::now());
        left.unwrap_or_default()
    }
}

/// Lets only a signed-in user pass.
pub async fn require(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    mut request: Request,
    next: Next,
) -> Response {
    match user(&gateway, request.headers()) {
        Ok(user) if user.time_left() >= MIN_TIME_LEFT => {
            request.extensions_mut().insert(user);
            return next.run(request).await;
        }
        // The next access token could not be verified either.
        Err(Error::Unavailable) => return unavailable(Status::unavailable("")),
        _ => {}
    }
    let Some(token) = REFRESH_TOKEN.get(request.headers()) else {
        return Redirect::to("/log-in").into_response();
    };
    let tokens = match calls::refresh(&gateway.auth, client.ip(), token).await {
        Ok(Some(tokens)) => tokens,
        Ok(None) => return unavailable(Status::unknown("")),
        Err(status) if status.code() == Code::Unauthenticated => return lost(),
        Err(status) => return unavailable(status),
    };
    let response = match verify(&gateway, tokens.access_token.clone()) {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(_) => unavailable(Status::unavailable("")),
    };
    // Also with an error: the old refresh token is used up, and showing it again ends the session.
    before(response, cookies_of(&tokens, None))
}

/// The user whose access token the browser sent, if it is valid.
pub fn user(gateway: &Gateway, headers: &HeaderMap) -> Result<SignedIn, Error> {
    let access_token = ACCESS_TOKEN.get(headers).ok_or(Error::InvalidToken)?;
    verify(gateway, access_token)
}

fn verify(gateway: &Gateway, access_token: String) -> Result<SignedIn, Error> {
    let claims = gateway.verifier.verify(&access_token)?;
    Ok(SignedIn {
        access_token,
        claims: Arc::new(claims),
    })
}

/// To the account, with the tokens of a new session, or with the next ones of a session.
pub fn start(tokens: Option<&TokenPair>, device: &str, notice: Option<Notice>) -> Response {
    let Some(tokens) = tokens else {
        return unavailable(Status::unknown(""));
    };
    let response = with(
        Redirect::to("/account").into_response(),
        cookies_of(tokens, Some(device)),
    );
    match notice {
        Some(notice) => with(response, notice_cookie(notice)),
        None => response,
    }
}

/// Another page, which shows the notice.
pub fn go(to: &str, notice: Notice) -> Response {
    with(Redirect::to(to).into_response(), notice_cookie(notice))
}

/// To the log-in, as a known device, which wrong passwords of others cannot hold back.
pub fn log_in(device: &str, notice: Notice) -> Response {
    with(go("/log-in", notice), DEVICE.set(device, DEVICE_MAX_AGE))
}

/// Ends the session of this refresh token. `false` if the service cannot be reached.
pub async fn end(gateway: &Gateway, client: IpAddr, refresh_token: String) -> bool {
    let ended = calls::logout(&gateway.auth, client, refresh_token).await;
    if let Err(status) = &ended {
        eprintln!("a session was not ended: {:?}", status.code());
    }
    ended.is_ok()
}

/// To the log-in, without the session's cookies. The device stays a known one.
pub fn forget(notice: Notice) -> Response {
    let deleted = [REFRESH_TOKEN.delete(), ACCESS_TOKEN.delete()];
    with(go("/log-in", notice), deleted.into_iter().flatten())
}

/// The session has ended, for example on another device.
pub fn lost() -> Response {
    forget(Notice::SessionLost)
}

/// The answer to a failed call of a page without a form.
pub fn failed(status: Status) -> Response {
    if status.code() == Code::Unauthenticated {
        return lost();
    }
    unavailable(status)
}

/// A page that shows the notice, which is then deleted.
pub fn shown(notice: Option<Notice>, response: Response) -> Response {
    let deleted = notice.and_then(|_| NOTICE.delete());
    with(response, deleted)
}

fn unavailable(status: Status) -> Response {
    let failure = Failure::from(status);
    let body = html! { p.links { a href="/account" { "Back to your account" } } };
    view::page("That did not work", &failure, &body)
}

fn notice_cookie(notice: Notice) -> Option<HeaderValue> {
    NOTICE.set(notice.word(), 60)
}

fn cookies_of(tokens: &TokenPair, device: Option<&str>) -> Vec<HeaderValue> {
    let max_age = cookies::seconds_until(tokens.access_token_expires_at.as_ref());
    let access = ACCESS_TOKEN.set(&tokens.access_token, max_age);
    let others = cookies::of_session(tokens, device);
    others.into_iter().flatten().chain(access).collect()
}

fn with(mut response: Response, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The page's own cookies come last, so that they win.
fn before(mut response: Response, cookies: Vec<HeaderValue>) -> Response {
    let own = response.headers().get_all(SET_COOKIE);
    let own: Vec<_> = own.iter().cloned().collect();
    response.headers_mut().remove(SET_COOKIE);
    with(response, cookies.into_iter().chain(own))
}

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let user = parts.extensions.get().cloned();
        user.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
