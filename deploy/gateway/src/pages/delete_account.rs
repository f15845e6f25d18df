//! `/account/delete`

use axum::{Form, extract::State, response::Response};
use maud::html;
use serde::Deserialize;

use super::{
    change_password::wrong_password,
    failure::Failure,
    field::{self, CURRENT_PASSWORD},
    notice::Notice,
    session::{self, SignedIn},
    view,
    visitor::Visitor,
};
use crate::{proto::DeleteAccountRequest, routes::Shared};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Confirmation {
    current_password: String,
}

pub async fn show() -> Response {
    form(&Failure::default())
}

/// Is not retried: after a lost answer the session is gone, which `session::lost` says.
pub async fn submit(
    State(gateway): Shared,
    user: SignedIn,
    visitor: Visitor,
    Form(Confirmation { current_password }): Form<Confirmation>,
) -> Response {
    let message = DeleteAccountRequest { current_password };
    let request = user.request(&gateway.auth, message, &visitor);
    match gateway.auth.account().delete_account(request).await {
        Ok(_) => session::forget(Notice::AccountDeleted),
        Err(status) => refused(Failure::from(status)),
    }
}

fn refused(failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        return session::lost();
    }
    form(&wrong_password(failure))
}

fn form(failure: &Failure) -> Response {
    let fields = html! {
        p { "Your account and all its sessions end at once. This cannot be undone." }
        (field::input(CURRENT_PASSWORD, "", failure))
    };
    let body = html! {
        (view::form("/account/delete", "Delete the account", &fields))
        p.links { a href="/account" { "Back to your account" } }
    };
    view::page("Delete your account", failure, &body)
}
