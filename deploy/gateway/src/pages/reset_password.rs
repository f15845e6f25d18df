//! `/reset-password`: where the link of the mail leads.

use std::net::IpAddr;

use axum::{
    Form,
    extract::{ConnectInfo, Query, State},
    http::HeaderMap,
    response::Response,
};
use maud::html;
use serde::Deserialize;

use super::{
    confirm_email::{Link, dead_link},
    failure::Failure,
    field::{self, NEW_PASSWORD},
    notice::Notice,
    session::{self, SignedIn},
    view,
    visitor::Visitor,
};
use crate::{
    proto::{ResetPasswordRequest, ResetPasswordResponse},
    routes::{Client, Gateway, Shared},
};

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

pub async fn submit(
    State(gateway): Shared,
    ConnectInfo(client): Client,
    headers: HeaderMap,
    visitor: Visitor,
    Form(given): Form<NewPassword>,
) -> Response {
    // The reset ends this session, and the gateway may receive its revocation before the answer.
    let user = session::user(&gateway, &headers).ok();
    let message = ResetPasswordRequest {
        reset_token: given.token.trim().to_owned(),
        new_password: given.new_password,
        start_session: true,
        device_name: visitor.device_name,
    };
    let request = gateway.auth.request(message, visitor.address);
    match gateway.auth.recovery().reset_password(request).await {
        Ok(answer) => done(&gateway, client.ip(), user, answer.into_inner()).await,
        Err(status) => refused(&given.token, Failure::from(status)),
    }
}

/// Goes on only with a session of the same user. The link may be one of an attacker, who wants
/// the browser to use the attacker's account. The device becomes a known one, because the new
/// password has ended the user's device tokens.
async fn done(
    gateway: &Gateway,
    client: IpAddr,
    user: Option<SignedIn>,
    answer: ResetPasswordResponse,
) -> Response {
    let (notice, device) = (Notice::PasswordReset, &answer.device_token);
    if user.is_some_and(|user| user.claims.user_id.to_string() == answer.user_id) {
        return session::start(answer.tokens.as_ref(), device, Some(notice));
    }
    if let Some(tokens) = answer.tokens {
        session::end(gateway, client, tokens.refresh_token).await;
    }
    session::log_in(device, notice)
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
        p.more { "All your sessions end on all devices. Then log in with the new password." }
    };
    let body = view::form("/reset-password", "Set the new password", &fields);
    view::page("Set a new password", failure, &body)
}
