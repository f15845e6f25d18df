//! `/forgot-password`. The answer is the same for every address.

use axum::{Form, extract::State, response::Response};
use maud::html;
use serde::Deserialize;

use super::{
    failure::Failure,
    field::{self, EMAIL},
    view,
    visitor::Visitor,
};
use crate::{proto::RequestPasswordResetRequest, routes::Shared};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Address {
    email: String,
}

pub async fn show() -> Response {
    form("", &Failure::default())
}

/// Is not retried: each attempt counts.
pub async fn submit(
    State(gateway): Shared,
    visitor: Visitor,
    Form(given): Form<Address>,
) -> Response {
    let message = RequestPasswordResetRequest {
        email: given.email.clone(),
        locale: visitor.locale,
    };
    let request = gateway.auth.request(message, visitor.address);
    match gateway
        .auth
        .recovery()
        .request_password_reset(request)
        .await
    {
        Ok(_) => check_your_mail(&given.email),
        Err(status) => form(&given.email, &Failure::from(status)),
    }
}

fn check_your_mail(email: &str) -> Response {
    let body = html! {
        section.card {
            p { "We have sent a mail to this address, if it has an account:" }
            p.address { (email) }
            p { "The link in the mail works for 30 minutes." }
            p.more {
                "Is there no mail after a few minutes? Look in the spam folder, check the address "
                "above, or " a href="/forgot-password" { "try again" } "."
            }
        }
        p.links { a href="/log-in" { "Back to log in" } }
    };
    view::page("Check your mail", &Failure::default(), &body)
}

fn form(email: &str, failure: &Failure) -> Response {
    let fields = html! {
        p { "Tell us the address of your account. We send a link to set a new password." }
        (field::input(EMAIL, email, failure))
    };
    let body = html! {
        (view::form("/forgot-password", "Send the link", &fields))
        p.links { a href="/log-in" { "Back to log in" } }
    };
    view::page("Forgot your password?", failure, &body)
}
