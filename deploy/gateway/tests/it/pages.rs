//! The pages, without a browser: a person who sends forms and keeps cookies.

mod forms;
mod links;
mod protection;

use std::collections::BTreeMap;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::service::Service;

const PASSWORD: &str = "wasp ember 417 tulip";
const NEW_PASSWORD: &str = "quiet meadow brass lantern";

struct Person {
    app: Router,
    cookies: BTreeMap<String, String>,
    /// `Sec-Fetch-Site`.
    site: &'static str,
    /// `Accept-Language`.
    languages: &'static str,
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    html: String,
}

impl Person {
    async fn of(service: &Service) -> Self {
        Self {
            app: service.gateway().await,
            cookies: BTreeMap::new(),
            site: "same-origin",
            languages: "pt-BR,en;q=0.5",
        }
    }

    async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, &[]).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(Method::POST, path, fields).await
    }

    async fn send(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> Page {
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, cookies.join("; "))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::USER_AGENT, "Mozilla/5.0 (X11; Linux) Firefox/140.0")
            .header(header::ACCEPT_LANGUAGE, self.languages)
            .header("sec-fetch-site", self.site);
        let body = Body::from(serde_urlencoded::to_string(fields).unwrap());
        let answer = self.app.clone().oneshot(request.body(body).unwrap()).await;
        let (head, body) = answer.unwrap().into_parts();
        for cookie in head.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        self.cookies.retain(|_, value| !value.is_empty());
        let body = to_bytes(body, 64 * 1024).await.unwrap();
        Page {
            status: head.status,
            headers: head.headers,
            html: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Sends a form, and opens the page that the answer leads to.
    async fn follow(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let answer = self.post(path, fields).await;
        let to = answer.leads_to();
        self.get(&to).await
    }

    async fn sign_up(&mut self, email: &str) -> Page {
        let fields = [("email", email), ("password", PASSWORD)];
        self.follow("/sign-up", &fields).await
    }

    /// By the cookie of the access token.
    fn user_id(&self) -> String {
        let token = &self.cookies["__Host-access_token"];
        let claims = token.split('.').nth(1).expect("a JWT");
        let claims = BASE64URL.decode(claims).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        claims["sub"].as_str().expect("a user").to_owned()
    }

    async fn log_in(&mut self, email: &str, password: &str) -> Page {
        let fields = [("email", email), ("password", password)];
        self.post("/log-in", &fields).await
    }
}

impl Page {
    fn leads_to(&self) -> String {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.html);
        let to = self.headers[header::LOCATION].to_str().unwrap();
        to.to_owned()
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert!(self.html.contains(text), "{text:?} is not in {}", self.html);
    }

    #[track_caller]
    fn does_not_say(&self, text: &str) {
        assert!(!self.html.contains(text), "{text:?} is in {}", self.html);
    }

    /// The text beside a field, to which its input points.
    #[track_caller]
    fn error_at(&self, field: &str) -> &str {
        let start = format!("<p class=\"error\" id=\"{field}-error\">");
        let (_, rest) = self.html.split_once(&start).expect(&self.html);
        let (error, rest) = rest.split_once("</p>").unwrap();
        let (input, _) = rest.split_once('>').unwrap();
        assert!(input.contains(&format!("id=\"{field}\"")), "{input}");
        assert!(input.contains("aria-invalid=\"true\""), "{input}");
        assert!(input.contains(&format!("{field}-error\"")), "{input}");
        self.says(&format!("<a href=\"#{field}\">{error}</a>"));
        self.says("role=\"alert\"");
        error
    }
}
