//! The JSON routes.

mod ended;

use std::time::{Duration, Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use realchat_gateway_example::auth::Auth;
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt as _;

use crate::{
    eventually,
    service::{NEW_KEY, OLD_KEY, Service, TOKEN},
    support,
};

/// A client that keeps the cookies, like a browser.
struct Browser {
    app: Router,
    /// The cookie of the session, `name=value`.
    cookie: String,
    /// That of the device.
    device: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Browser {
    async fn of(service: &Service) -> Self {
        Self {
            app: service.gateway().await,
            cookie: String::new(),
            device: String::new(),
        }
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::COOKIE,
                format!("theme=dark; {}; {}", self.cookie, self.device),
            );
        let response = self
            .app
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        for cookie in head.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            let is_device = cookie.starts_with("__Host-device=");
            let kept = if is_device {
                &mut self.device
            } else {
                &mut self.cookie
            };
            cookie.clone_into(kept);
        }
        let body = to_bytes(body, 64 * 1024).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    async fn post(&mut self, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            Body::empty()
        } else {
            body.to_string().into()
        };
        self.send(Request::post(path), body).await
    }

    async fn me(&mut self, token: &str) -> Answer {
        let request = Request::get("/me").header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request, Body::empty()).await
    }

    /// A moderator's page, with this access token.
    async fn moderation(&mut self, token: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let request = Request::get("/moderation").header(header::AUTHORIZATION, authorization);
        self.send(request, Body::empty()).await
    }

    async fn register(&mut self, email: &str) -> String {
        let answer = self.post("/register", credentials(email)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        access_token(&answer)
    }
}

fn credentials(email: &str) -> Value {
    json!({"email": email, "password": "correct horse battery staple"})
}

fn access_token(answer: &Answer) -> String {
    answer.body["access_token"]
        .as_str()
        .expect("an access token")
        .to_owned()
}

fn altered(part: &Value, name: &str, value: &str) -> Value {
    let mut part = part.clone();
    part[name] = value.into();
    part
}

/// A token, signed like one of the service.
fn sign(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| BASE64URL.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(OLD_KEY.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64URL.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

fn assert_error(answer: &Answer, status: StatusCode, reason: &str) {
    assert_eq!(
        (answer.status, &answer.body["error"]),
        (status, &json!(reason))
    );
}

#[test]
fn an_authority_without_https_is_refused() {
    let refused = Auth::new("http://127.0.0.1:1", TOKEN, Some(b"a certificate")).err();
    assert!(refused.unwrap().to_string().contains("not https"));
}

#[tokio::test]
async fn a_user_registers_logs_in_refreshes_and_logs_out() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let first = browser.register("ana@example.com").await;
    let me = browser.me(&first).await;
    assert_eq!(me.status, StatusCode::OK);

    let login = browser.post("/login", credentials("Ana@Example.com")).await;
    assert_eq!(login.status, StatusCode::OK);
    let again = browser.me(&access_token(&login)).await;
    assert_eq!(again.body["user_id"], me.body["user_id"]);
    assert_ne!(again.body["session_id"], me.body["session_id"]);

    let before = browser.cookie.clone();
    let refreshed = browser.post("/refresh", Value::Null).await;
    assert_eq!(refreshed.status, StatusCode::OK);
    assert_ne!(browser.cookie, before);
    let me = browser.me(&access_token(&refreshed)).await;
    assert_eq!(me.body["session_id"], again.body["session_id"]);

    let session = browser.cookie.clone();
    let out = browser.post("/logout", Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert_eq!(browser.cookie, "__Host-refresh_token=");
    assert_error(
        &browser.post("/refresh", Value::Null).await,
        StatusCode::UNAUTHORIZED,
        "INVALID_TOKEN",
    );
    browser.cookie = session;
    assert_error(
        &browser.post("/refresh", Value::Null).await,
        StatusCode::UNAUTHORIZED,
        "INVALID_TOKEN",
    );
    assert_eq!(
        browser.post("/logout", Value::Null).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_route_of_moderators_is_for_tokens_with_the_role() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let first = browser.register("ana@example.com").await;
    let refused = browser.moderation(&first).await;
    assert_error(&refused, StatusCode::FORBIDDEN, "MISSING_ROLE");
    let user_id = browser.me(&first).await.body["user_id"].clone();
    let user_id = user_id.as_str().unwrap();

    support::set_roles(&service, user_id, &["moderator", "billing"]).await;
    let refused = browser.moderation(&first).await;
    assert_error(&refused, StatusCode::FORBIDDEN, "MISSING_ROLE");
    let token = access_token(&browser.post("/refresh", Value::Null).await);
    let page = browser.moderation(&token).await;
    assert_eq!(
        (page.status, &page.body["moderator"]),
        (StatusCode::OK, &json!(user_id))
    );
    assert_eq!(
        browser.me(&token).await.body["roles"],
        json!(["moderator", "billing"])
    );

    support::set_roles(&service, user_id, &["billing"]).await;
    let token = access_token(&browser.post("/refresh", Value::Null).await);
    let refused = browser.moderation(&token).await;
    assert_error(&refused, StatusCode::FORBIDDEN, "MISSING_ROLE");
    let stranger = browser.moderation("eyJ.no.token").await;
    assert_error(&stranger, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
}

#[tokio::test]
async fn a_suspended_user_sees_until_when() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let token = browser.register("ana@example.com").await;
    let user_id = browser.me(&token).await.body["user_id"].clone();
    let end = 4_102_444_800; // 2100-01-01
    support::suspend(&service, user_id.as_str().unwrap(), Some(end)).await;
    let login = browser.post("/login", credentials("ana@example.com")).await;
    assert_error(&login, StatusCode::FORBIDDEN, "ACCOUNT_SUSPENDED");
    assert_eq!(login.body["until"], json!("2100-01-01T00:00:00.000000Z"));
    let refresh = browser.post("/refresh", Value::Null).await;
    assert_error(&refresh, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
}

#[tokio::test]
async fn a_registration_that_must_be_verified_first_starts_no_session() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "required")]).await;
    let mut browser = Browser::of(&service).await;
    let answer = browser
        .post("/register", credentials("ana@example.com"))
        .await;
    assert_eq!(
        (answer.status, answer.body),
        (StatusCode::CREATED, json!({}))
    );
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    let login = browser.post("/login", credentials("ana@example.com")).await;
    assert_error(&login, StatusCode::FORBIDDEN, "EMAIL_NOT_VERIFIED");
}

#[tokio::test]
async fn the_refresh_token_is_in_a_cookie_and_nowhere_else() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let answer = browser
        .post("/register", credentials("ana@example.com"))
        .await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-refresh_token=rcr_"));
    for attribute in [
        "HttpOnly",
        "Secure",
        "SameSite=Strict",
        "Path=/",
        "Max-Age=86",
    ] {
        assert!(cookie.contains(&format!("; {attribute}")), "{attribute}");
    }
    assert!(!cookie.contains("Domain"));
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert!(!answer.body.to_string().contains("rcr_"));
}

#[tokio::test]
async fn the_device_token_is_in_a_cookie_that_outlives_the_session() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let answer = browser
        .post("/register", credentials("ana@example.com"))
        .await;
    let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
    let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
    assert_eq!(cookies.len(), 2);
    let cookie = cookies[1];
    assert!(cookie.starts_with("__Host-device=rcd_"));
    for attribute in [
        "HttpOnly",
        "Secure",
        "SameSite=Lax",
        "Path=/",
        "Max-Age=7776000",
    ] {
        assert!(cookie.contains(&format!("; {attribute}")), "{attribute}");
    }
    assert!(!cookie.contains("Domain"));
    assert!(!answer.body.to_string().contains("rcd_"));

    let registered = browser.device.clone();
    browser.post("/refresh", Value::Null).await;
    browser.post("/logout", Value::Null).await;
    assert_eq!(browser.device, registered);
    // The service renews the token that it was shown, and keeps its nonce. Without one it makes a
    // new device.
    let nonce = |cookie: &str| cookie["__Host-device=rcd_".len()..][..22].to_owned();
    browser.post("/login", credentials("ana@example.com")).await;
    assert_eq!(nonce(&browser.device), nonce(&registered));
    browser.device.clear();
    browser.post("/login", credentials("ana@example.com")).await;
    assert_ne!(nonce(&browser.device), nonce(&registered));
}

#[tokio::test]
async fn a_new_password_replaces_all_tokens_of_the_browser() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let token = browser.register("ana@example.com").await;
    let (session, device) = (browser.cookie.clone(), browser.device.clone());
    let change = json!({
        "current_password": "correct horse battery staple",
        "new_password": "wasp ember 417 tulip",
    });
    let without = browser.post("/password", change.clone()).await;
    assert_error(&without, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
    let request =
        Request::post("/password").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let changed = browser.send(request, change.to_string().into()).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    assert_ne!((&browser.cookie, &browser.device), (&session, &device));
    assert!(browser.device.starts_with("__Host-device=rcd_") && browser.device != device);
    let me = browser.me(&access_token(&changed)).await;
    assert_eq!(me.status, StatusCode::OK);
    let refreshed = browser.post("/refresh", Value::Null).await;
    assert_eq!(refreshed.status, StatusCode::OK);
    browser.cookie = session;
    let old = browser.post("/refresh", Value::Null).await;
    assert_error(&old, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
}

#[tokio::test]
async fn errors_become_http_statuses() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    browser.register("ana@example.com").await;
    let taken = browser
        .post("/register", credentials("ana@example.com"))
        .await;
    assert_error(&taken, StatusCode::CONFLICT, "EMAIL_TAKEN");
    let bad = browser
        .post("/register", json!({"email": "no", "password": "x"}))
        .await;
    assert_error(&bad, StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
    assert!(
        bad.body["fields"]
            .as_object()
            .is_some_and(|fields| !fields.is_empty())
    );
    let wrong = json!({"email": "ana@example.com", "password": "wrong"});
    let wrong = browser.post("/login", wrong).await;
    assert_error(&wrong, StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS");
    browser.cookie.clear();
    let none = browser.post("/refresh", Value::Null).await;
    assert_error(&none, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
}

#[tokio::test]
async fn the_protected_route_accepts_only_tokens_of_the_service() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let token = browser.register("ana@example.com").await;
    let parts: Vec<_> = token.split('.').collect();
    let decode =
        |part| -> Value { serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap() };
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let with_header = |name, value| sign(&altered(&header, name, value), &claims);
    let with_claim = |name, value| sign(&header, &altered(&claims, name, value));
    // The unchanged token with a new signature is accepted: `sign` is not why others fail.
    let signed = sign(&header, &claims);
    assert_eq!(browser.me(&signed).await.status, StatusCode::OK);
    let other = BASE64URL.encode(altered(&claims, "sub", "other").to_string());
    let forged = [
        String::new(),
        "a.b.c".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{other}.{}", parts[0], parts[2]),
        with_header("alg", "none"),
        with_header("alg", "HS512"),
        with_header("typ", "JWT"),
        with_header("kid", "unknown"),
        with_claim("iss", "other"),
        with_claim("aud", "other"),
    ];
    for token in forged {
        assert_error(
            &browser.me(&token).await,
            StatusCode::UNAUTHORIZED,
            "INVALID_TOKEN",
        );
    }
    let expired = Service::start(&[("ACCESS_TOKEN_TTL", "1s")]).await;
    let mut browser = Browser::of(&expired).await;
    let token = browser.register("ana@example.com").await;
    let deadline = Instant::now() + Duration::from_mins(1);
    while browser.me(&token).await.status == StatusCode::OK {
        assert!(Instant::now() < deadline, "the token expires");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn new_keys_come_with_the_next_stream() {
    let mut service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let old = browser.register("ana@example.com").await;
    service
        .restart(&[("JWT_SECRET", NEW_KEY), ("JWT_PREVIOUS_SECRETS", OLD_KEY)])
        .await;
    let login = browser.post("/login", credentials("ana@example.com")).await;
    let new = access_token(&login);
    eventually("the new key", async || {
        let me = browser.me(&new).await;
        (me.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(browser.me(&old).await.status, StatusCode::OK);
}

#[tokio::test]
async fn while_the_service_is_down_answers_say_when_to_retry() {
    let mut service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let token = browser.register("ana@example.com").await;
    service.stop();
    for path in ["/login", "/register", "/refresh"] {
        let answer = browser.post(path, credentials("ana@example.com")).await;
        assert_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE");
        assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    }
    assert_eq!(
        browser.me(&token).await.status,
        StatusCode::OK,
        "verifying needs no call"
    );
    let session = browser.cookie.clone();
    let out = browser.post("/logout", Value::Null).await;
    assert_error(&out, StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE");
    assert_eq!(browser.cookie, "__Host-refresh_token=");
    browser.cookie = session;
    service.restart(&[]).await;
    assert_eq!(
        browser.post("/refresh", Value::Null).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn answers_of_an_overloaded_service_say_when_to_retry() {
    let busy = [
        ("BCRYPT_COST", "12"),
        ("PASSWORD_THREADS", "1"),
        ("PASSWORD_MAX_WAIT", "1ms"),
    ];
    let service = Service::start(&busy).await;
    let browser = Browser::of(&service).await;
    let logins = (0..40).map(|n| {
        let mut browser = Browser {
            app: browser.app.clone(),
            cookie: String::new(),
            device: String::new(),
        };
        tokio::spawn(async move {
            browser
                .post("/login", credentials(&format!("unknown-{n}@example.com")))
                .await
        })
    });
    let logins: Vec<_> = logins.collect();
    let mut refused = 0;
    for login in logins {
        let answer = login.await.unwrap();
        if answer.status != StatusCode::UNAUTHORIZED {
            assert_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED");
            let later = answer.headers[header::RETRY_AFTER].to_str().unwrap();
            assert!(later.parse::<u32>().unwrap() >= 1);
            refused += 1;
        }
    }
    assert!(refused > 0);
}
