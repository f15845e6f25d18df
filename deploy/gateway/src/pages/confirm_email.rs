//! `/confirm-email`: where the mails to a new address lead.

use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{failure::Failure, field, view, visitor::Visitor};
use crate::{proto::ConfirmEmailRequest, routes::Shared};

/// The token of a mail. Empty if the link was typed without it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Link {
    pub token: String,
}

/// Does not use the token.
pub async fn show(Query(link): Query<Link>) -> Response {
    form(&link.token, &Failure::default())
}

pub async fn submit(State(gateway): Shared, visitor: Visitor, Form(link): Form<Link>) -> Response {
    let token = link.token.trim().to_owned();
    let request = gateway
        .auth
        .request(ConfirmEmailRequest { token }, visitor.address);
    match gateway.auth.recovery().confirm_email(request).await {
        Ok(answer) => done(&answer.into_inner().email),
        Err(status) => refused(&link.token, Failure::from(status)),
    }
}

fn done(email: &str) -> Response {
    let body = html! {
        p { "This is now the confirmed address of your account:" }
        p.address { (email) }
        p { a.button href="/account" { "Go to your account" } }
    };
    view::message(StatusCode::OK, "Thank you", &body)
}

fn refused(token: &str, failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        let next = html! {
            p { "Log in to ask for a new one." }
            p { a.button href="/account" { "Go to your account" } }
        };
        return dead_link(failure, &next);
    }
    let text = "Another account has this address, or had it until a few days ago.";
    form(token, &failure.say("EMAIL_TAKEN", None, text))
}

/// A token that is used, expired, void or malformed: the service does not say which.
pub fn dead_link(failure: Failure, next: &Markup) -> Response {
    let failure = failure.say("INVALID_TOKEN", None, "This link does not work.");
    let body = html! {
        section.card {
            p {
                "It was used before, or it has expired. A link also ends when your password or your "
                "address changes."
            }
            (next)
        }
    };
    view::page("Link not valid", &failure, &body)
}

fn form(token: &str, failure: &Failure) -> Response {
    let fields = html! {
        p { "Confirm that you want to use the address to which we sent the mail." }
        (field::token(token, failure))
    };
    let body = view::form("/confirm-email", "Confirm the address", &fields);
    view::page("Confirm your email address", failure, &body)
}
