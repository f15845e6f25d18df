//! HTML pages that work without a script: every act is a form, sent by POST.
//!
//! - A GET never acts. Mail scanners follow the links of mails, so a link with a token shows a
//!   form with one button.
//! - [`same_origin`] refuses forms that another site sent.
//! - [`session`] keeps a page's tokens in cookies that no script can read.
//! - [`failure`] turns an error of the service into a text beside its field; [`field`] shows it.
//! - No page is cached, framed or named to another site, and none can load a script.

mod account;
mod change_email;
mod change_password;
mod confirm_email;
mod delete_account;
mod failure;
mod field;
mod forgot_password;
mod log_in;
mod notice;
mod reset_password;
mod revert_email;
mod same_origin;
mod session;
mod sessions;
mod sign_up;
mod view;
mod visitor;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{
        HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};

use crate::routes::Gateway;

/// A form holds an address, two passwords and a token.
const MAX_FORM_BYTES: usize = 16 * 1024;

const HEADERS: [(axum::http::HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    // The address of a page that a mail links to holds a token.
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
];

pub fn router(gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    let with_session = from_fn_with_state(Arc::clone(gateway), session::require);
    Router::new()
        .route("/account", get(account::show))
        .route("/account/verification", post(account::verify))
        .route("/account/sessions/end", post(sessions::end))
        .route("/account/sessions/end-others", post(sessions::end_others))
        .route(
            "/account/password",
            get(change_password::show).post(change_password::submit),
        )
        .route(
            "/account/email",
            get(change_email::show).post(change_email::submit),
        )
        .route(
            "/account/delete",
            get(delete_account::show).post(delete_account::submit),
        )
        .route_layer(with_session)
        .route("/", get(async || Redirect::to("/account")))
        .route("/sign-up", get(sign_up::show).post(sign_up::submit))
        .route("/log-in", get(log_in::show).post(log_in::submit))
        .route("/log-out", post(log_in::out))
        .route(
            "/forgot-password",
            get(forgot_password::show).post(forgot_password::submit),
        )
        .route(
            "/reset-password",
            get(reset_password::show).post(reset_password::submit),
        )
        .route(
            "/confirm-email",
            get(confirm_email::show).post(confirm_email::submit),
        )
        .route(
            "/revert-email",
            get(revert_email::show).post(revert_email::submit),
        )
        .route_layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .route_layer(from_fn(same_origin::require))
        .route_layer(map_response(with_headers))
        .route("/style.css", get(style))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn style() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/css; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=300"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("pages/style.css")).into_response()
}
