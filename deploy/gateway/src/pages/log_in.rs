//! `/log-in` and `/log-out`

use axum::{
    Form,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use maud::{Markup, html};
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
    if failure.is("ACCOUNT_SUSPENDED") {
        return suspended(failure.until.as_deref());
    }
    let failure = failure.say(
        "INVALID_CREDENTIALS",
        Some(PASSWORD.name),
        "The email address or the password is wrong.",
    );
    form(email, &failure, None)
}

/// The password was right.
fn suspended(until: Option<&str>) -> Response {
    let body = html! {
        @match until {
            // RFC 3339 in UTC: the date, and hours and minutes.
            Some(until) => p {
                "You can log in again from "
                time datetime=(until) { (until.get(..16).unwrap_or(until).replace('T', " ")) " UTC" }
                " on."
            },
            None => p { "You cannot log in." }
        }
        p { "If you think that this is a mistake, write to our support." }
    };
    view::message(StatusCode::FORBIDDEN, "Your account is suspended", &body)
}

/// The password was right. The service sends another mail only if the link of the last one has
/// expired, and does not say whether it did.
fn verify_first(email: &str) -> Response {
    let body = html! {
        p { "Before you can log in, confirm that this is your address:" }
        p.address { (email) }
        p { "Open the link in our newest mail to it, and then log in." }
        (without_mail())
        p { a.button href="/log-in" { "Log in" } }
    };
    view::message(StatusCode::FORBIDDEN, "Confirm your address first", &body)
}

/// A reset proves the mailbox too, and its mail comes each time.
pub fn without_mail() -> Markup {
    html! {
        p.more {
            "Is there no mail, also not in the spam folder? Then "
            a href="/forgot-password" { "set a new password" }
            ": this also confirms your address."
        }
    }
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
    let ended = match REFRESH_TOKEN.get(&headers) {
        Some(token) => session::end(&gateway, client.ip(), token).await,
        None => true,
    };
    session::forget(if ended {
        Notice::LoggedOut
    } else {
        Notice::LoggedOutHere
    })
}
