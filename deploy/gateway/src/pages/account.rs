//! `/account`: the address, the password and the sessions.

use axum::{extract::State, http::HeaderMap, response::Response};
use maud::{Markup, html};
use tonic::Status;

use super::{
    failure::Failure,
    notice::Notice,
    session::{self, SignedIn},
    sessions, view,
    visitor::Visitor,
};
use crate::{
    auth::{Auth, is_temporary, retrying},
    proto::{GetAccountRequest, GetAccountResponse, RequestEmailVerificationRequest, Session},
    routes::{Gateway, Shared},
};

pub async fn show(
    State(gateway): Shared,
    user: SignedIn,
    visitor: Visitor,
    headers: HeaderMap,
) -> Response {
    let account = fetch(&gateway.auth, &user, &visitor);
    let sessions = sessions::fetch(&gateway.auth, &user, &visitor);
    match tokio::try_join!(account, sessions) {
        Ok((account, sessions)) => {
            let notice = Notice::of(&headers);
            let page = page(&user, &account, &sessions, notice);
            session::shown(notice, page)
        }
        Err(status) => session::failed(status),
    }
}

pub async fn fetch(
    auth: &Auth,
    user: &SignedIn,
    visitor: &Visitor,
) -> Result<GetAccountResponse, Status> {
    let fetched = retrying(is_temporary, || {
        let request = user.request(auth, GetAccountRequest {}, visitor);
        let mut client = auth.account();
        async move { client.get_account(request).await }
    });
    fetched.await
}

/// Asks for another mail that verifies the address. It is not retried: each attempt counts.
pub async fn verify(State(gateway): Shared, user: SignedIn, visitor: Visitor) -> Response {
    match ask_to_verify(&gateway, &user, &visitor).await {
        Ok(()) => session::go("/account", Notice::MailSent),
        Err(status) => session::failed(status),
    }
}

async fn ask_to_verify(
    gateway: &Gateway,
    user: &SignedIn,
    visitor: &Visitor,
) -> Result<(), Status> {
    let locale = visitor.locale.clone();
    let message = RequestEmailVerificationRequest { locale };
    let request = user.request(&gateway.auth, message, visitor);
    let mut client = gateway.auth.account();
    client.request_email_verification(request).await.map(drop)
}

fn page(
    user: &SignedIn,
    account: &GetAccountResponse,
    list: &[Session],
    notice: Option<Notice>,
) -> Response {
    let body = html! {
        (view::notice(notice))
        section.card.wide {
            h2 { "Your details" }
            dl {
                div.row {
                    div {
                        dt { "Email address" }
                        dd { (account.email) " " (badge(user, account)) }
                    }
                    a href="/account/email" { "Change" span.unseen { " the email address" } }
                }
                @if !account.pending_email.is_empty() {
                    div {
                        dt { "New address" }
                        dd { (account.pending_email) " " span.badge.open { "not confirmed" } }
                        dd.more { "Open the link in the mail to this address to finish the change." }
                        dd.more {
                            "Did you not ask for it? "
                            a href="/account/password" { "Change your password" }
                            ": this stops the change."
                        }
                    }
                }
                div.row {
                    div { dt { "Password" } dd { "••••••••" } }
                    a href="/account/password" { "Change" span.unseen { " the password" } }
                }
            }
            (ask_for_mail(user, account))
        }
        (sessions::section(list))
        div.row {
            a href="/account/delete" { "Delete your account" }
            (view::button("/log-out", None, &html! { "Log out" }))
        }
    };
    view::page("Your account", &Failure::default(), &body)
}

/// Only a service that verifies addresses says in its tokens whether one is.
fn badge(user: &SignedIn, account: &GetAccountResponse) -> Markup {
    html! {
        @if account.email_verified_at.is_some() {
            span.badge.good { "confirmed" }
        } @else if user.claims.email_verified.is_some() {
            span.badge.open { "not confirmed" }
        }
    }
}

fn ask_for_mail(user: &SignedIn, account: &GetAccountResponse) -> Markup {
    let is_wanted = account.email_verified_at.is_none() && user.claims.email_verified.is_some();
    html! {
        @if is_wanted {
            div.ask {
                p { "Open the link in our mail to confirm that this is your address." }
                (view::button("/account/verification", None, &html! { "Send the mail again" }))
            }
        }
    }
}
