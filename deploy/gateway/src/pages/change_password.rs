//! `/account/password`

use axum::{Form, extract::State, response::Response};
use maud::html;
use serde::Deserialize;

use super::{
    account,
    failure::Failure,
    field::{self, CURRENT_PASSWORD, NEW_PASSWORD},
    notice::Notice,
    session::{self, SignedIn},
    view,
    visitor::Visitor,
};
use crate::{proto::ChangePasswordRequest, routes::Shared};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Passwords {
    /// Comes back for the password manager.
    email: String,
    current_password: String,
    new_password: String,
}

pub async fn show(State(gateway): Shared, user: SignedIn, visitor: Visitor) -> Response {
    match account::fetch(&gateway.auth, &user, &visitor).await {
        Ok(account) => form(&account.email, &Failure::default()),
        Err(status) => session::failed(status),
    }
}

/// Is not retried: a retry would show the old password, which may be wrong by then.
pub async fn submit(
    State(gateway): Shared,
    user: SignedIn,
    visitor: Visitor,
    Form(given): Form<Passwords>,
) -> Response {
    let message = ChangePasswordRequest {
        current_password: given.current_password,
        new_password: given.new_password,
    };
    let request = user.request(&gateway.auth, message, &visitor);
    match gateway.auth.account().change_password(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let notice = Some(Notice::PasswordChanged);
            session::start(answer.tokens.as_ref(), &answer.device_token, notice)
        }
        Err(status) => refused(&given.email, Failure::from(status)),
    }
}

fn refused(email: &str, failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        return session::lost();
    }
    form(email, &wrong_password(failure))
}

pub fn wrong_password(failure: Failure) -> Failure {
    let text = "This is not your current password.";
    failure.say("INVALID_CREDENTIALS", Some(CURRENT_PASSWORD.name), text)
}

fn form(email: &str, failure: &Failure) -> Response {
    let fields = html! {
        (field::username(email))
        (field::input(CURRENT_PASSWORD, "", failure))
        (field::input(NEW_PASSWORD, "", failure))
        p.more { "All your other sessions end." }
    };
    let body = html! {
        (view::form("/account/password", "Change password", &fields))
        p.links { a href="/account" { "Back to your account" } }
    };
    view::page("Change your password", failure, &body)
}
