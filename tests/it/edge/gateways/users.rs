//! Users with sessions, and what they ask the gateway.

use std::collections::BTreeMap;

use auth_service::proto;

use super::{
    Scene,
    http::{Answer, ask},
};
use crate::harness::{login, logout, register};

/// A user with a session.
pub struct User {
    pub access_token: String,
    pub refresh_token: String,
    id: String,
    session_id: String,
    roles: Option<&'static str>,
}

impl User {
    /// What the application must see of this user.
    pub fn identity(&self) -> BTreeMap<String, Vec<&str>> {
        let all = [
            ("x-user-id", Some(&*self.id)),
            ("x-session-id", Some(&*self.session_id)),
            ("x-user-roles", self.roles),
        ];
        let present = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        present
            .map(|(name, value)| (name.to_owned(), vec![value]))
            .collect()
    }
}

impl Scene {
    pub async fn user(&self, email: &str) -> User {
        self.client()
            .await
            .register(register(email))
            .await
            .expect("it is free");
        self.log_in(email).await
    }

    pub async fn user_with_roles(&self, email: &str) -> User {
        self.client()
            .await
            .register(register(email))
            .await
            .expect("it is free");
        self.operate(&["users", "set-roles", email, "admin", "billing:read"])
            .await;
        let roles = Some("admin,billing:read");
        User {
            roles,
            ..self.log_in(email).await
        }
    }

    /// Starts a session of a user without roles.
    pub async fn log_in(&self, email: &str) -> User {
        let answer = self.client().await.login(login(email)).await;
        let proto::LoginResponse {
            user_id,
            session_id,
            tokens,
            ..
        } = answer.expect("a session").into_inner();
        let tokens = tokens.expect("a login has tokens");
        User {
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            id: user_id,
            session_id,
            roles: None,
        }
    }

    pub async fn log_out(&self, user: &User) {
        let answer = self
            .client()
            .await
            .logout(logout(&user.refresh_token))
            .await;
        answer.expect("the session has ended");
    }

    /// Asks the gateway with this token.
    pub async fn get(&self, access_token: &str) -> Answer {
        self.ask("GET /chat", &[&bearer(access_token)]).await
    }

    /// Asks the gateway with these method, path and headers.
    pub async fn ask(&self, line: &str, headers: &[&str]) -> Answer {
        let headers = [headers, &["connection: close"]].concat();
        self.ask_exactly(line, &headers, b"").await
    }

    /// The test decides about all headers but `host`.
    pub async fn ask_exactly(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let line = format!("{line} HTTP/1.1");
        let head = [&[&*line, "host: chat.example"], headers].concat();
        ask(self.gateway.addr, &head.join("\r\n"), body).await
    }
}

/// The header with this token.
pub fn bearer(access_token: &str) -> String {
    format!("authorization: Bearer {access_token}")
}
