//! What protects the pages: headers, cookies, and the refusal of forms of other sites.

use axum::http::{StatusCode, header};

use super::{NEW_PASSWORD, PASSWORD, Person};
use crate::{gateway::Gateway, http, mailer, service::Service};

const PUBLIC: [&str; 6] = [
    "/sign-up",
    "/log-in",
    "/forgot-password",
    "/reset-password?token=rcm_x",
    "/confirm-email",
    "/revert-email?token=rcm_x",
];
const PRIVATE: [&str; 4] = [
    "/account",
    "/account/email",
    "/account/password",
    "/account/delete",
];

#[tokio::test]
async fn no_page_is_stored_framed_or_scripted() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    for path in PUBLIC.into_iter().chain(PRIVATE) {
        let page = ana.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                 frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(page.headers[&name], value, "{path} {name}");
        }
        for text in ["<script", "javascript:", " style=", " onclick="] {
            page.does_not_say(text);
        }
        page.says("<html lang=\"en\">");
        for input in page.html.split("<input ").skip(1) {
            let input = input.split('>').next().unwrap();
            let is_unseen = ["type=\"hidden\"", "aria-hidden"]
                .iter()
                .any(|a| input.contains(a));
            let id = input
                .strip_prefix("id=\"")
                .map(|rest| rest.split('"').next().unwrap());
            match id {
                Some(id) => {
                    page.says(&format!("<label for=\"{id}\">"));
                    assert!(input.contains("autocomplete=\""), "{input}");
                }
                None => assert!(is_unseen, "{input}"),
            }
        }
    }
    for path in ["/account", "/log-out"] {
        // Also what is not a page: a redirect, a wrong method.
        let answer = Person::of(&service).await.get(path).await;
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    let style = ana.get("/style.css").await;
    assert_eq!(
        style.headers[header::CONTENT_TYPE],
        "text/css; charset=utf-8"
    );
    style.says("prefers-color-scheme: dark");
}

#[tokio::test]
async fn the_tokens_are_in_cookies_that_no_script_and_no_other_site_can_use() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    let answer = ana
        .post(
            "/sign-up",
            &[("email", "ana@example.com"), ("password", PASSWORD)],
        )
        .await;
    let cookies: Vec<_> = answer.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 3);
    for cookie in cookies {
        let cookie = cookie.to_str().unwrap();
        let site = if cookie.starts_with("__Host-device=") {
            "Lax"
        } else {
            "Strict"
        };
        for attribute in ["HttpOnly", "Secure", "Path=/", &format!("SameSite={site}")] {
            assert!(cookie.contains(&format!("; {attribute}")), "{cookie}");
        }
        assert!(
            cookie.contains("; Max-Age=") && !cookie.contains("Max-Age=0"),
            "{cookie}"
        );
    }
    let page = ana.get("/account").await;
    for prefix in ["rcr_", "rcd_", "eyJ"] {
        page.does_not_say(prefix);
    }
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "optional")]).await;
    let (mut ana, mut other) = (Person::of(&service).await, Person::of(&service).await);
    ana.sign_up("ana@example.com").await;
    other.log_in("ana@example.com", PASSWORD).await.leads_to();
    let token = mailer::claim(&service, 0).await.token;
    for site in ["cross-site", "same-site"] {
        ana.site = site;
        let forms: [(&str, &[(&str, &str)]); 13] = [
            (
                "/sign-up",
                &[("email", "eve@example.com"), ("password", PASSWORD)],
            ),
            (
                "/log-in",
                &[("email", "ana@example.com"), ("password", PASSWORD)],
            ),
            ("/log-out", &[]),
            ("/forgot-password", &[("email", "ana@example.com")]),
            (
                "/reset-password",
                &[("token", &token), ("new_password", NEW_PASSWORD)],
            ),
            ("/confirm-email", &[("token", &token)]),
            ("/revert-email", &[("token", &token)]),
            ("/account/verification", &[]),
            (
                "/account/sessions/end",
                &[("session_id", "01a20fda-7110-7d2d-905e-1beca7432624")],
            ),
            ("/account/sessions/end-others", &[]),
            ("/account/delete", &[("current_password", PASSWORD)]),
            (
                "/account/password",
                &[
                    ("current_password", PASSWORD),
                    ("new_password", NEW_PASSWORD),
                ],
            ),
            (
                "/account/email",
                &[
                    ("current_password", PASSWORD),
                    ("new_email", "eve@example.com"),
                ],
            ),
        ];
        for (path, fields) in forms {
            let before = ana.cookies.clone();
            let page = ana.post(path, fields).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
            page.says("This form was sent by another site.");
            assert_eq!(ana.cookies, before, "{path}");
        }
    }
    ana.site = "same-origin";
    let account = ana.get("/account").await;
    account.says("not confirmed");
    account.does_not_say("eve@example.com");
    assert_eq!(other.get("/account").await.status, StatusCode::OK);
    let unknown = other.log_in("eve@example.com", PASSWORD).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.mail_requests().len(), 1);
    ana.post("/confirm-email", &[("token", &token)])
        .await
        .says("the confirmed address");
}

#[tokio::test]
async fn the_log_names_routes_and_nothing_that_a_person_sent() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "optional")]).await;
    let gateway = Gateway::start(&service).await;
    let post = async |path: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Sec-Fetch-Site: same-origin"
        );
        let (head, _) = http::send(&gateway.host, &head, body).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let body = format!("email=ana@example.com&password={PASSWORD}");
    assert_eq!(post("/sign-up", &body).await, "303");
    assert_eq!(
        post(
            "/log-in?email=ana@example.com",
            "email=ana@example.com&password=x"
        )
        .await,
        "401"
    );
    let token = mailer::claim(&service, 0).await.token;
    for path in ["confirm-email", "reset-password", "ana@example.com"] {
        let head = format!("GET /{path}?token={token} HTTP/1.1");
        http::send(&gateway.host, &head, "").await;
    }
    assert_eq!(
        post("/confirm-email", &format!("token={token}")).await,
        "200"
    );
    let log = gateway.log();
    let expected = "POST /sign-up 303\nPOST /log-in 401\nGET /confirm-email 200\n\
                    GET /reset-password 200\nGET unknown 404\nPOST /confirm-email 200\n";
    assert_eq!(log, expected);
}
