//! The frame of the pages. `maud` escapes every text.

use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{failure::Failure, notice::Notice};
use crate::error::whole_seconds;

/// A page. The failure, if there is one, gives its status and comes first.
pub fn page(title: &str, failure: &Failure, body: &Markup) -> Response {
    let is_failed = !failure.errors.is_empty();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { @if is_failed { "Error: " } (title) " – RealChat" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header { a.brand href="/account" { (logo()) "RealChat" } }
                main {
                    h1 { (title) }
                    (summary(failure))
                    (body)
                }
            }
        }
    };
    let mut response = (failure.http, Html(page.into_string())).into_response();
    if let Some(time) = failure.retry_after {
        let seconds = HeaderValue::from(whole_seconds(time));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// A page without a form.
pub fn message(http: StatusCode, title: &str, body: &Markup) -> Response {
    let mut response = page(
        title,
        &Failure::default(),
        &html! { section.card { (body) } },
    );
    *response.status_mut() = http;
    response
}

/// Two speech bubbles, beside the name: nothing to read aloud.
fn logo() -> Markup {
    html! {
        svg width="28" height="28" viewBox="0 0 28 28" aria-hidden="true" focusable="false" {
            path.back d="M11 3h10a4 4 0 0 1 4 4v6a4 4 0 0 1-4 4v4l-4-4h-6a4 4 0 0 1-4-4V7a4 4 0 0 1 4-4z" {}
            path.front d="M7 9h9a4 4 0 0 1 4 4v5a4 4 0 0 1-4 4h-5l-4 4v-4a4 4 0 0 1-4-4v-5a4 4 0 0 1 4-4z" {}
        }
    }
}

/// All errors, each a link to its field. Screen readers read it at once.
fn summary(failure: &Failure) -> Markup {
    html! {
        @if !failure.errors.is_empty() {
            div.summary role="alert" {
                ul {
                    @for error in &failure.errors {
                        li {
                            @match &error.field {
                                Some(field) => { a href={ "#" (field) } { (error.text) } }
                                None => { (error.text) }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub fn notice(notice: Option<Notice>) -> Markup {
    html! {
        @if let Some(notice) = notice {
            p.notice role="status" { (notice.text()) }
        }
    }
}

/// A form that its own address receives. Browsers do not check it: the service's answers are in
/// one place, and screen readers find them.
pub fn form(action: &str, submit: &str, fields: &Markup) -> Markup {
    html! {
        form.card method="post" action=(action) novalidate {
            (fields)
            button.primary type="submit" { (submit) }
        }
    }
}

/// A button that acts at once, with the hidden field that it needs.
pub fn button(action: &str, hidden: Option<(&str, &str)>, label: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            @if let Some((name, value)) = hidden {
                input type="hidden" name=(name) value=(value);
            }
            button type="submit" { (label) }
        }
    }
}
