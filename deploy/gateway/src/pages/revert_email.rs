//! `/revert-email`: where the mail to the old address leads, after somebody changed it.

use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use maud::html;

use super::{
    confirm_email::{Link, dead_link},
    failure::Failure,
    field, view,
    visitor::Visitor,
};
use crate::{proto::RevertEmailRequest, routes::Shared};

/// Does not use the token.
pub async fn show(Query(link): Query<Link>) -> Response {
    form(&link.token, &Failure::default())
}

pub async fn submit(State(gateway): Shared, visitor: Visitor, Form(link): Form<Link>) -> Response {
    let token = link.token.trim().to_owned();
    let message = RevertEmailRequest { token };
    let request = gateway.auth.request(message, visitor.address);
    match gateway.auth.recovery().revert_email(request).await {
        Ok(answer) => done(&answer.into_inner().email),
        Err(status) => refused(&link.token, Failure::from(status)),
    }
}

fn done(email: &str) -> Response {
    let body = html! {
        p { "This is the address of your account again:" }
        p.address { (email) }
        p { "All sessions have ended, and the old password no longer works." }
        p { "We have sent you another mail: use its link to set a new password." }
        p.more { "Is there no mail? " a href="/forgot-password" { "Ask for a new link" } "." }
    };
    view::message(StatusCode::OK, "The change is undone", &body)
}

fn refused(token: &str, failure: Failure) -> Response {
    if failure.is("INVALID_TOKEN") {
        let next = html! { p { a.button href="/log-in" { "Log in" } } };
        return dead_link(failure, &next);
    }
    if failure.is("EMAIL_TAKEN") {
        return taken(failure);
    }
    form(token, &failure)
}

/// The owner of the address can end that account. The link stays valid.
fn taken(failure: Failure) -> Response {
    let failure = failure.say("EMAIL_TAKEN", None, "Another account has this address now.");
    let body = html! {
        section.card {
            p { "You can still get your account back:" }
            ol {
                li {
                    a href="/forgot-password" { "Set a new password" }
                    " for the other account. The mail comes to your address."
                }
                li { "Log in with it, and " a href="/account/delete" { "delete that account" } "." }
                li { "Open the link that led you here again." }
            }
        }
    };
    view::page("The change is not undone yet", &failure, &body)
}

fn form(token: &str, failure: &Failure) -> Response {
    let fields = html! {
        p {
            "Somebody changed the address of your account. If it was not you, undo the change: you "
            "get your account back with this address."
        }
        (field::token(token, failure))
        p.more { "All sessions end, and the password stops working. We send you a link to set a new one." }
    };
    let body = html! {
        (view::form("/revert-email", "Undo the change", &fields))
        p.links { "Did you change it yourself? Then there is nothing to do." }
    };
    view::page("Undo the change of your address", failure, &body)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    /// The service keeps the address free. Only an older version beside it lets others take it.
    #[tokio::test]
    async fn an_address_that_another_account_has_shows_the_way_out() {
        let details = ErrorDetails::with_error_info("EMAIL_TAKEN", "auth.realchat", []);
        let status = Status::with_error_details(Code::AlreadyExists, "", details);
        let page = refused("rcm_x", Failure::from(status));
        assert_eq!(page.status(), StatusCode::CONFLICT);
        let page = to_bytes(page.into_body(), 64 * 1024).await.unwrap();
        let page = String::from_utf8_lossy(&page);
        let steps = [
            "Another account has this address now.",
            "<a href=\"/forgot-password\">Set a new password</a>",
            "<a href=\"/account/delete\">delete that account</a>",
            "Open the link that led you here again.",
        ];
        let places = steps.map(|step| page.find(step).expect(step));
        assert!(places.is_sorted());
    }
}
