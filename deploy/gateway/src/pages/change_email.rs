//! `/account/email`. The new address counts once the link of its mail was used.

use axum::{Form, extract::State, response::Response};
use maud::html;
use serde::Deserialize;

use super::{
    change_password::wrong_password,
    failure::Failure,
    field::{self, CURRENT_PASSWORD, NEW_EMAIL},
    session::{self, SignedIn},
    view,
    visitor::Visitor,
};
use crate::{proto::ChangeEmailRequest, routes::Shared};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Change {
    new_email: String,
    current_password: String,
}

pub async fn show() -> Response {
    form("", &Failure::default())
}

/// Is not retried: each attempt counts.
pub async fn submit(
    State(gateway): Shared,
    user: SignedIn,
    visitor: Visitor,
    Form(given): Form<Change>,
) -> Response {
    let message = ChangeEmailRequest {
        current_password: given.current_password,
        new_email: given.new_email.clone(),
        locale: visitor.locale.clone(),
    };
    let request = user.request(&gateway.auth, message, &visitor);
    match gateway.auth.account().change_email(request).await {
        Ok(_) => check_your_mail(&given.new_email),
        Err(status) => refused(&given.new_email, Failure::from(status)),
    }
}

fn refused(email: &str, failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        return session::lost();
    }
    form(email, &wrong_password(failure))
}

fn check_your_mail(email: &str) -> Response {
    let body = html! {
        section.card {
            p { "We have sent a mail to this address:" }
            p.address { (email) }
            p { "Open the link in it to finish the change." }
            p.more {
                "Until then your account keeps its address. After the change, all your other sessions "
                "end, and the old address gets a mail with which the change can be undone."
            }
            p { a.button href="/account" { "Back to your account" } }
        }
    };
    view::page("Check your mail", &Failure::default(), &body)
}

fn form(email: &str, failure: &Failure) -> Response {
    let fields = html! {
        (field::input(NEW_EMAIL, email, failure))
        (field::input(CURRENT_PASSWORD, "", failure))
    };
    let body = html! {
        (view::form("/account/email", "Send the mail", &fields))
        p.links { a href="/account" { "Back to your account" } }
    };
    view::page("Change your email address", failure, &body)
}
