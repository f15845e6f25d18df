//! Refuses forms that another site sent (CSRF, also the one that logs a victim in to the
//! attacker's account).
//!
//! The session's cookies are `SameSite=Strict`, but a log-in needs none, and a subdomain counts as
//! the same site. Browsers since 2023 say in `Sec-Fetch-Site` where a request comes from, which no
//! page can change. Other clients must name this host in `Origin`.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::Response,
};
use maud::html;

use super::view;

pub async fn require(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_read || is_same_origin(request.headers()) {
        return next.run(request).await;
    }
    let text = html! { p { "This form was sent by another site. Nothing has happened." } };
    view::message(StatusCode::FORBIDDEN, "That did not work", &text)
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let header = |name| headers.get(name).map(HeaderValue::as_bytes);
    match (
        header("sec-fetch-site"),
        header(ORIGIN.as_str()),
        header(HOST.as_str()),
    ) {
        // `none`: the user sent the request, for example by reloading the page.
        (Some(site), ..) => matches!(site, b"same-origin" | b"none"),
        (None, Some(origin), Some(host)) => {
            let rest = origin.strip_prefix(b"https://");
            rest.or(origin.strip_prefix(b"http://")) == Some(host)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_form_of_this_origin_is_accepted() {
        let accepts = |given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "chat.example:8080".parse().unwrap());
            for (name, value) in given {
                headers.insert(*name, value.parse().unwrap());
            }
            is_same_origin(&headers)
        };
        assert!(accepts(&[("sec-fetch-site", "same-origin")]));
        assert!(accepts(&[("sec-fetch-site", "none")]));
        assert!(accepts(&[("origin", "https://chat.example:8080")]));
        assert!(accepts(&[("origin", "http://chat.example:8080")]));
        let own = ("origin", "https://chat.example:8080");
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!accepts(&[("sec-fetch-site", site), own]), "{site}");
        }
        for origin in [
            "null",
            "",
            "chat.example:8080",
            "https://chat.example",
            "https://evil.example",
        ] {
            assert!(!accepts(&[("origin", origin)]), "{origin}");
        }
        assert!(!accepts(&[]));
    }
}
