//! The rules of a session.

use auth_service::model::Timestamp;

use super::{CLOCK_SKEW, IDLE, RETRY_WINDOW};

/// The expected state of a session.
#[derive(Debug)]
pub struct Model {
    /// The oldest first.
    pub tokens: Vec<String>,
    pub rotated_at: Timestamp,
    pub expires_at: Timestamp,
    pub ends_at: Timestamp,
    /// The reason, if the session was ended.
    pub ended: Option<&'static str>,
}

impl Model {
    pub fn current(&self) -> &str {
        self.tokens.last().expect("a session has a token")
    }

    /// The token of this age. If there is none, the first one.
    pub fn token(&self, age: usize) -> &str {
        &self.tokens[self.tokens.len().saturating_sub(age + 1)]
    }

    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at && now < self.ends_at
    }

    /// Ends the session if this is reuse. After [`Expected::Successor`] call [`Self::take`].
    pub fn refresh(&mut self, token: &str, now: Timestamp) -> Expected {
        if !self.is_live(now) {
            return Expected::Refused;
        }
        if token == self.current() {
            return Expected::Successor;
        }
        let previous = self.tokens.iter().rev().nth(1).map(String::as_str);
        let is_in_time =
            now.since(self.rotated_at) <= RETRY_WINDOW && self.rotated_at.since(now) <= CLOCK_SKEW;
        if previous == Some(token) && is_in_time {
            return Expected::Same;
        }
        self.ended = Some("reuse");
        Expected::Refused
    }

    pub fn take(&mut self, successor: String, now: Timestamp) {
        self.tokens.push(successor);
        self.rotated_at = now;
        self.expires_at = now + IDLE;
    }

    pub fn log_out(&mut self, now: Timestamp) {
        self.end("logout", now);
    }

    pub fn end(&mut self, reason: &'static str, now: Timestamp) {
        if self.is_live(now) {
            self.ended = Some(reason);
        }
    }
}

/// The expected answer to a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A new token.
    Successor,
    /// The current token again.
    Same,
    Refused,
}
