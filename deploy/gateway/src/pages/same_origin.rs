//! Refuses forms that another site sent (CSRF, also the one that logs a victim in to the
//! attacker's account).
//!
//! The session's cookies are `SameSite=Strict`, but a log-in needs none, and a subdomain counts as
//! the same site. Browsers say in `Sec-Fetch-Site` where a request comes from, which no page can
//! change. An older browser is refused: its `Origin` is `null`, because the pages have the policy
//! `no-referrer`.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use maud::html;

use super::view;

pub async fn require(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_read {
        return next.run(request).await;
    }
    match refusal(request.headers()) {
        None => next.run(request).await,
        Some(text) => {
            let text = html! { p { (text) } p { "Nothing has happened." } };
            view::message(StatusCode::FORBIDDEN, "That did not work", &text)
        }
    }
}

fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    match site {
        Some(b"same-origin") => None,
        Some(_) => Some("This form was sent by another site."),
        None => Some(
            "Your browser does not say which site sent this form. Use Chrome or Edge 79, \
             Firefox 90, Safari 16.4, or a later version.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_form_of_this_origin_is_accepted() {
        let refused = |given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "chat.example:8080".parse().unwrap());
            for (name, value) in given {
                headers.insert(*name, value.parse().unwrap());
            }
            refusal(&headers).unwrap_or_default()
        };
        assert_eq!(refused(&[("sec-fetch-site", "same-origin")]), "");
        let own = ("origin", "https://chat.example:8080");
        for site in ["cross-site", "same-site", "none", "", "Same-Origin"] {
            let text = refused(&[("sec-fetch-site", site), own]);
            assert_eq!(text, "This form was sent by another site.", "{site}");
        }
        // Without encryption the network can forge it for an `https` site.
        for origin in [own.1, "http://chat.example:8080", "null"] {
            assert!(
                refused(&[("origin", origin)]).contains("Safari 16.4"),
                "{origin}"
            );
        }
    }
}
