//! Steps against the service, each compared with the model.

use std::sync::Arc;

use auth_service::{
    auth::{Issuer, SigningSecrets, Subject},
    model::{Clock as _, Roles, SessionId, Timestamp, UserId},
    proto::auth_service_client::AuthServiceClient,
};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tokio::{sync::Barrier, task::JoinSet};
use tonic::transport::Channel;

use super::{
    IDLE, MAX, RETRY_WINDOW, Step,
    model::{Expected, Model},
};
use crate::harness::{
    JWT_SECRET, START, Service, Session, TokenParts, assert_invalid_token, end_session,
    insert_sessions, logout, refresh,
};

/// A session of the test. Its row is inserted directly, which costs no hash.
pub struct Play<'a> {
    service: &'a Service,
    clients: &'a [AuthServiceClient<Channel>],
    /// Another session of the user, which never ends.
    keeper: &'a Session,
    id: String,
    pub model: Model,
}

impl<'a> Play<'a> {
    pub async fn new(
        service: &'a Service,
        clients: &'a [AuthServiceClient<Channel>],
        keeper: &'a Session,
    ) -> Self {
        service.clock.set(START);
        let (token, id) = (
            TokenParts::random(),
            uuid::Uuid::now_v7().simple().to_string(),
        );
        insert_sessions(
            &service.database,
            [(id.as_str(), &token)],
            START + IDLE,
            START + MAX,
        )
        .await;
        let model = Model {
            tokens: vec![token.text()],
            rotated_at: START,
            expires_at: START + IDLE,
            ends_at: START + MAX,
            ended: None,
        };
        Self {
            service,
            clients,
            keeper,
            id,
            model,
        }
    }

    pub async fn take(&mut self, step: Step) -> Outcome {
        let now = self.service.clock.now();
        match step {
            Step::Advance(by) => self.service.clock.set(now + by),
            Step::TurnBack(by) => self.service.clock.set(now - by),
            Step::Refresh { age } => self.race(age, 1).await?,
            Step::Race { age, calls } => self.race(age, calls).await?,
            Step::RaceLogout { age, calls } => self.race_logout(age, calls).await?,
            Step::Forge => {
                let mut forged = TokenParts::of(self.model.current());
                forged.secret[0] ^= 1;
                let forged = forged.text();
                self.model.refresh(&forged, now);
                let answers = self.refresh_at_once(&forged, 1, None).await;
                prop_assert!(answers[0].is_none());
            }
            Step::Logout { age } => {
                let token = self.model.token(age).to_owned();
                let mut client = self.clients[0].clone();
                prop_assert!(client.logout(logout(&token)).await.is_ok());
                self.model.log_out(now);
            }
            Step::EndByUser => {
                let id: uuid::Uuid = self.id.parse().expect("an id");
                let mut account = self.service.account_with(&access_token(self.keeper, now));
                let answer = account.end_session(end_session(&id.to_string())).await;
                prop_assert!(answer.is_ok());
                self.model.end("ended_by_user", now);
            }
        }
        self.check().await
    }

    /// Refreshes with one token at once. All get the same answer.
    async fn race(&mut self, age: usize, calls: usize) -> Outcome {
        let now = self.service.clock.now();
        let token = self.model.token(age).to_owned();
        let answers = self.refresh_at_once(&token, calls, None).await;
        let expected = self.model.refresh(&token, now);
        for answer in &answers {
            prop_assert_eq!(answer, &answers[0], "a fork: {:?}", self.model);
        }
        match (expected, answers.into_iter().next().flatten()) {
            (Expected::Successor, Some(successor)) => {
                prop_assert!(!self.model.tokens.contains(&successor));
                self.model.take(successor, now);
            }
            (Expected::Same, Some(same)) => prop_assert_eq!(same.as_str(), self.model.current()),
            (Expected::Refused, None) => {}
            (expected, answer) => {
                prop_assert!(false, "{expected:?}, but {answer:?}: {:?}", self.model);
            }
        }
        Ok(())
    }

    /// The logout comes before, between or after the refreshes. It always ends a live session,
    /// and all refreshes that succeed get the same token.
    async fn race_logout(&mut self, age: usize, calls: usize) -> Outcome {
        let now = self.service.clock.now();
        let token = self.model.token(age).to_owned();
        let any = self.model.token(1).to_owned();
        let was_live = self.model.is_live(now);
        let answers = self.refresh_at_once(&token, calls, Some(&any)).await;
        match self.model.refresh(&token, now) {
            Expected::Successor => {
                let granted: Vec<_> = answers.into_iter().flatten().collect();
                prop_assert!(granted.iter().all(|token| *token == granted[0]));
                if let Some(successor) = granted.into_iter().next() {
                    prop_assert!(!self.model.tokens.contains(&successor));
                    self.model.take(successor, now);
                }
            }
            Expected::Same => {
                let current = self.model.current();
                prop_assert!(answers.iter().flatten().all(|token| token == current));
            }
            Expected::Refused => {
                prop_assert!(answers.iter().all(Option::is_none));
                if was_live {
                    // Either reuse or the logout came first.
                    self.model.ended = match self.revoke_reason().await.as_deref() {
                        Some("reuse") => Some("reuse"),
                        _ => Some("logout"),
                    };
                }
            }
        }
        self.model.log_out(now);
        Ok(())
    }

    /// The new refresh tokens, `None` for `INVALID_TOKEN`. Any other error fails the test.
    async fn refresh_at_once(
        &self,
        token: &str,
        calls: usize,
        log_out: Option<&str>,
    ) -> Vec<Option<String>> {
        let barrier = Arc::new(Barrier::new(calls + usize::from(log_out.is_some())));
        let mut answers = JoinSet::new();
        for call in 0..calls {
            let mut client = self.clients[call % self.clients.len()].clone();
            let (barrier, token) = (Arc::clone(&barrier), token.to_owned());
            answers.spawn(async move {
                barrier.wait().await;
                match client.refresh(refresh(&token)).await {
                    Ok(answer) => answer
                        .into_inner()
                        .tokens
                        .map(|tokens| tokens.refresh_token),
                    Err(status) => {
                        assert_invalid_token(&status);
                        None
                    }
                }
            });
        }
        if let Some(token) = log_out {
            let mut client = self.clients[calls % self.clients.len()].clone();
            barrier.wait().await;
            client.logout(logout(token)).await.expect("a logout is OK");
        }
        answers.join_all().await
    }

    async fn revoke_reason(&self) -> Option<String> {
        let id = self.service.database.id(&self.id);
        let sql = format!("SELECT revoke_reason FROM sessions WHERE id = {id}");
        self.service.database.text(&sql).await
    }

    /// Compares the database with the model: one row, its generation, and its end.
    async fn check(&self) -> Outcome {
        let database = &self.service.database;
        let id = database.id(&self.id);
        let row = format!(
            "SELECT CAST(generation AS TEXT) || ' ' || coalesce(revoke_reason, 'lives') \
             FROM sessions WHERE id = {id}"
        );
        let generation = self.model.tokens.len();
        let expected = format!("{generation} {}", self.model.ended.unwrap_or("lives"));
        prop_assert_eq!(
            database.texts(&row).await,
            [Some(expected)],
            "{:?}",
            self.model
        );
        Ok(())
    }
}

type Outcome = Result<(), TestCaseError>;

/// A new access token, valid at `now`.
fn access_token(session: &Session, now: Timestamp) -> String {
    let secrets = SigningSecrets {
        current: JWT_SECRET.as_bytes().to_vec().into(),
        next: None,
        previous: Vec::new(),
    };
    let (name, audience) = ("realchat-auth".to_owned(), "realchat".to_owned());
    let issuer = Issuer::new(secrets, name, audience, RETRY_WINDOW);
    let subject = Subject {
        user_id: UserId::parse(&session.user_id).expect("an id"),
        session_id: SessionId::parse(&session.id).expect("an id"),
        email_verified: None,
        roles: &Roles::default(),
    };
    let token = issuer
        .issue(subject, now, now + RETRY_WINDOW)
        .expect("it is signed");
    token.jwt.expose_secret().to_owned()
}
