//! `/log-in` and `/log-out`

use axum::{
    Form,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use maud::html;
use serde::Deserialize;

use super::{
    failure::Failure,
    field::{self, EMAIL, PASSWORD},
    notice::Notice,
    session, view,
    visitor::Visitor,
};
use crate::{
    calls,
    cookies::REFRESH_TOKEN,
    proto::LoginRequest,
    routes::{Client, Shared},
};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    pub email: String,
    pub password: String,
}

pub async fn show(headers: HeaderMap) -> Response {
    let notice = Notice::of(&headers);
    session::shown(notice, form("", &Failure::default(), notice))
}

pub async fn submit(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    visitor: Visitor,
    Form(given): Form<Credentials>,
) -> Response {
    let message = LoginRequest {
        email: given.email.clone(),
        password: given.password,
        device_name: visitor.device_name,
        device_token: visitor.device_token,
    };
    match calls::login(&gateway.auth, client.ip(), message).await {
        Ok(answer) => session::start(answer.tokens.as_ref(), &answer.device_token, None),
        Err(status) => refused(&given.email, Failure::from(status)),
    }
}

fn refused(email: &str, failure: Failure) -> Response {
    if failure.is("EMAIL_NOT_VERIFIED") {
        return verify_first(email);
    }
    let failure = failure.say(
        "INVALID_CREDENTIALS",
        Some(PASSWORD.name),
        "The email address or the password is wrong.",
    );
    form(email, &failure, None)
}

/// The password was right.
fn verify_first(email: &str) -> Response {
    let body = html! {
        p { "Before you can log in, confirm that this is your address:" }
        p.address { (email) }
        p { "A mail with a link is on its way. Open the link, and then log in." }
        p.more { "Nothing there after a few minutes? Look into the spam folder." }
        p { a.button href="/log-in" { "Log in" } }
    };
    view::message(StatusCode::FORBIDDEN, "Confirm your address first", &body)
}

fn form(email: &str, failure: &Failure, notice: Option<Notice>) -> Response {
    let fields = html! {
        (field::input(EMAIL, email, failure))
        (field::input(PASSWORD, "", failure))
    };
    let body = html! {
        (view::notice(notice))
        (view::form("/log-in", "Log in", &fields))
        p.links {
            a href="/forgot-password" { "Forgot your password?" }
        }
        p.links { "New here? " a href="/sign-up" { "Create an account" } }
    };
    view::page("Log in", failure, &body)
}

/// Always deletes the cookies of the session, which ends only if the service can be reached. The
/// device stays a known one.
pub async fn out(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
) -> Response {
    if let Some(token) = REFRESH_TOKEN.get(&headers)
        && let Err(status) = calls::logout(&gateway.auth, client.ip(), token).await
    {
        eprintln!("a session was not ended: {:?}", status.code());
    }
    session::forget(Notice::LoggedOut)
}
