//! What the platform is told about users: the payloads of `user_event.proto`.
//!
//! The act that causes an event drafts it, and the transaction of the act encodes it once,
//! when it knows which version of the user the event is.

use std::time::Duration;

use prost::Message as _;
use prost_types::Timestamp as ProtoTimestamp;

use super::{Email, EventId, SessionId, Timestamp, Traceparent, UserId};
use crate::proto::{self, user_event};

/// What an act's events have in common.
#[derive(Clone, Debug)]
pub struct Act {
    pub now: Timestamp,
    pub traceparent: Option<Traceparent>,
}

/// An event that is not numbered yet.
pub struct Event {
    /// The same in every copy of the event.
    pub id: EventId,
    pub user_id: UserId,
    pub act: Act,
    pub payload: Payload,
}

/// What happened to the user.
pub enum Payload {
    UserCreated {
        email: Email,
    },
    PasswordChanged {
        /// When the new one took effect.
        changed_at: Timestamp,
    },
    /// A session was ended before its time.
    SessionEnded {
        session_id: SessionId,
        reason: SessionEndReason,
        /// When the last of its access tokens expires.
        access_tokens_expire_at: Timestamp,
    },
    UserDeleted,
}

/// Why a session was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEndReason {
    Logout,
    /// A rotated refresh token came back.
    Reuse,
    /// Its user ended it from another session.
    EndedByUser,
    /// Its user changed the password in another session.
    PasswordChanged,
}

/// How an act ends sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd {
    pub reason: SessionEndReason,
    pub access_token_ttl: Duration,
}

impl Event {
    #[must_use]
    pub fn new(user_id: UserId, payload: Payload, act: &Act) -> Self {
        Self {
            id: EventId::new(act.now),
            user_id,
            act: act.clone(),
            payload,
        }
    }

    /// The header `ce_type`.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self.payload {
            Payload::UserCreated { .. } => "USER_CREATED",
            Payload::PasswordChanged { .. } => "PASSWORD_CHANGED",
            Payload::SessionEnded { .. } => "SESSION_ENDED",
            Payload::UserDeleted => "USER_DELETED",
        }
    }

    /// The `UserEvent`, as Kafka will have it.
    #[must_use]
    pub fn encode(&self, user_version: i64) -> Vec<u8> {
        proto::UserEvent {
            event_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            user_version,
            occurred_at: Some(self.act.now.into()),
            payload: Some(self.payload.encode(self.act.now)),
        }
        .encode_to_vec()
    }
}

impl Payload {
    fn encode(&self, now: Timestamp) -> user_event::Payload {
        match self {
            Self::UserCreated { email } => user_event::Payload::UserCreated(proto::UserCreated {
                email: email.as_str().to_owned(),
                created_at: Some(now.into()),
            }),
            Self::PasswordChanged { changed_at } => {
                user_event::Payload::PasswordChanged(proto::PasswordChanged {
                    changed_at: Some((*changed_at).into()),
                })
            }
            Self::UserDeleted => user_event::Payload::UserDeleted(proto::UserDeleted {
                deleted_at: Some(now.into()),
            }),
            Self::SessionEnded {
                session_id,
                reason,
                access_tokens_expire_at,
            } => user_event::Payload::SessionEnded(proto::SessionEnded {
                session_id: session_id.to_string(),
                reason: proto::SessionEndReason::from(*reason).into(),
                access_tokens_expire_at: Some((*access_tokens_expire_at).into()),
            }),
        }
    }
}

impl SessionEndReason {
    /// What the session's row says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::EndedByUser => "ended_by_user",
            Self::PasswordChanged => "password_changed",
        }
    }
}

impl From<SessionEndReason> for proto::SessionEndReason {
    fn from(reason: SessionEndReason) -> Self {
        match reason {
            SessionEndReason::Logout => Self::Logout,
            SessionEndReason::Reuse => Self::Reuse,
            SessionEndReason::EndedByUser => Self::EndedByUser,
            SessionEndReason::PasswordChanged => Self::PasswordChanged,
        }
    }
}

impl SessionEnd {
    /// The event that says that a session, refreshed last at `rotated_at`, was ended.
    #[must_use]
    pub fn of(self, session_id: SessionId, rotated_at: Timestamp, act: &Act) -> Payload {
        Payload::SessionEnded {
            session_id,
            reason: self.reason,
            // Another replica, whose clock is ahead, may have issued the last access token.
            access_tokens_expire_at: act.now.max(rotated_at) + self.access_token_ttl,
        }
    }
}

impl From<Timestamp> for ProtoTimestamp {
    fn from(time: Timestamp) -> Self {
        let micros = time.as_micros();
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).expect("below 10^9");
        Self {
            seconds: time.as_secs(),
            nanos,
        }
    }
}
