//! `/reset-password`: where the link of the mail leads.

use axum::{
    Form,
    extract::{Query, State},
    response::Response,
};
use maud::html;
use serde::Deserialize;

use super::{
    confirm_email::{Link, dead_link},
    failure::Failure,
    field::{self, NEW_PASSWORD},
    notice::Notice,
    session, view,
    visitor::Visitor,
};
use crate::{proto::ResetPasswordRequest, routes::Shared};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NewPassword {
    token: String,
    new_password: String,
}

/// Does not use the token.
pub async fn show(Query(link): Query<Link>) -> Response {
    form(&link.token, &Failure::default())
}

/// Also logs in: who can read the mail may set the password.
pub async fn submit(
    State(gateway): Shared,
    visitor: Visitor,
    Form(given): Form<NewPassword>,
) -> Response {
    let message = ResetPasswordRequest {
        reset_token: given.token.trim().to_owned(),
        new_password: given.new_password,
        start_session: true,
        device_name: visitor.device_name,
    };
    let request = gateway.auth.request(message, visitor.address);
    match gateway.auth.recovery().reset_password(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let notice = Some(Notice::PasswordReset);
            session::start(answer.tokens.as_ref(), &answer.device_token, notice)
        }
        Err(status) => refused(&given.token, Failure::from(status)),
    }
}

fn refused(token: &str, failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        let next = html! { p { a.button href="/forgot-password" { "Ask for a new link" } } };
        return dead_link(failure, &next);
    }
    form(token, &failure)
}

fn form(token: &str, failure: &Failure) -> Response {
    let fields = html! {
        (field::token(token, failure))
        (field::input(NEW_PASSWORD, "", failure))
        p.more { "All your sessions end on all devices. You stay logged in here." }
    };
    let body = view::form("/reset-password", "Set the new password", &fields);
    view::page("Set a new password", failure, &body)
}
