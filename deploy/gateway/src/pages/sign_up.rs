//! `/sign-up`

use axum::{Form, extract::State, response::Response};
use maud::{Markup, html};

use super::{
    failure::Failure,
    field::{self, CHOSEN_PASSWORD, EMAIL},
    log_in::{Credentials, without_mail},
    session, view,
    visitor::Visitor,
};
use crate::{proto::RegisterRequest, routes::Shared};

pub async fn show() -> Response {
    form("", &Failure::default())
}

/// Is not retried: if only the answer was lost, the address would be taken.
pub async fn submit(
    State(gateway): Shared,
    visitor: Visitor,
    Form(given): Form<Credentials>,
) -> Response {
    let message = RegisterRequest {
        email: given.email.clone(),
        password: given.password,
        start_session: true,
        device_name: visitor.device_name,
        locale: visitor.locale,
    };
    let request = gateway.auth.request(message, visitor.address);
    match gateway.auth.client().register(request).await {
        Ok(answer) => {
            let registered = answer.into_inner();
            if registered.tokens.is_none() {
                return check_your_mail(&given.email);
            }
            session::start(registered.tokens.as_ref(), &registered.device_token, None)
        }
        Err(status) => form(
            &given.email,
            &Failure::from(status).say(
                "EMAIL_TAKEN",
                Some(EMAIL.name),
                "There is already an account with this address. Log in, or reset its password.",
            ),
        ),
    }
}

/// The address must be verified before the first log-in.
fn check_your_mail(email: &str) -> Response {
    let body = html! {
        section.card {
            p { "We have sent a mail to this address:" }
            p.address { (email) }
            p { "Open the link in it to confirm your address. Then you can log in." }
            (without_mail())
            p { a.button href="/log-in" { "Log in" } }
        }
    };
    view::page("Check your mail", &Failure::default(), &body)
}

fn form(email: &str, failure: &Failure) -> Response {
    let fields = html! {
        (field::input(EMAIL, email, failure))
        (field::input(CHOSEN_PASSWORD, "", failure))
    };
    let body = html! {
        (view::form("/sign-up", "Create account", &fields))
        (links())
    };
    view::page("Create your account", failure, &body)
}

fn links() -> Markup {
    html! { p.links { "Do you have an account? " a href="/log-in" { "Log in" } } }
}
