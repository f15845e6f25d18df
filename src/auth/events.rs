//! What the platform is told about users: the payloads of `user_event.proto`.

use prost::Message as _;
use prost_types::Timestamp as ProtoTimestamp;

use super::{Call, Email};
use crate::{
    clock::Timestamp,
    db::outbox::NewEvent,
    id::{EventId, SessionId, UserId},
    proto::{self, user_event::Payload},
};

/// Something that happened to a user.
pub(super) enum Event<'a> {
    /// The account was created.
    UserCreated(&'a Email),
    /// The password was changed.
    PasswordChanged {
        /// When the new one took effect.
        changed_at: Timestamp,
    },
    /// A session was ended before its time.
    SessionEnded {
        /// Which.
        session_id: SessionId,
        /// Why.
        reason: SessionEndReason,
        /// When the last of its access tokens expires.
        access_tokens_expire_at: Timestamp,
    },
    /// The account was deleted.
    UserDeleted,
}

/// Why a session was ended before its time.
#[derive(Clone, Copy)]
pub(super) enum SessionEndReason {
    /// Its user logged out.
    Logout,
    /// A rotated refresh token came back.
    Reuse,
    /// Its user ended it from another session.
    EndedByUser,
    /// Its user changed the password in another session.
    PasswordChanged,
}

impl SessionEndReason {
    /// What the session's row says.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::EndedByUser => "ended_by_user",
            Self::PasswordChanged => "password_changed",
        }
    }
}

impl Event<'_> {
    /// The event for the outbox: encoded once, in the transaction that it belongs to.
    pub(super) fn draft(self, user_id: UserId, now: Timestamp, call: &Call) -> NewEvent {
        let event_id = EventId::new(now);
        let event_type = match self {
            Self::UserCreated(_) => "USER_CREATED",
            Self::PasswordChanged { .. } => "PASSWORD_CHANGED",
            Self::SessionEnded { .. } => "SESSION_ENDED",
            Self::UserDeleted => "USER_DELETED",
        };
        let payload = self.into_payload(now);
        NewEvent {
            event_id,
            user_id,
            event_type,
            occurred_at: now,
            traceparent: call.traceparent.clone(),
            encode: Box::new(move |user_version| {
                proto::UserEvent {
                    event_id: event_id.to_string(),
                    user_id: user_id.to_string(),
                    user_version,
                    occurred_at: Some(now.into()),
                    payload: Some(payload.clone()),
                }
                .encode_to_vec()
            }),
        }
    }

    fn into_payload(self, now: Timestamp) -> Payload {
        match self {
            Self::UserCreated(email) => Payload::UserCreated(proto::UserCreated {
                email: email.as_str().to_owned(),
                created_at: Some(now.into()),
            }),
            Self::PasswordChanged { changed_at } => {
                Payload::PasswordChanged(proto::PasswordChanged {
                    changed_at: Some(changed_at.into()),
                })
            }
            Self::UserDeleted => Payload::UserDeleted(proto::UserDeleted {
                deleted_at: Some(now.into()),
            }),
            Self::SessionEnded {
                session_id,
                reason,
                access_tokens_expire_at,
            } => {
                let reason = match reason {
                    SessionEndReason::Logout => proto::SessionEndReason::Logout,
                    SessionEndReason::Reuse => proto::SessionEndReason::Reuse,
                    SessionEndReason::EndedByUser => proto::SessionEndReason::EndedByUser,
                    SessionEndReason::PasswordChanged => proto::SessionEndReason::PasswordChanged,
                };
                Payload::SessionEnded(proto::SessionEnded {
                    session_id: session_id.to_string(),
                    reason: reason.into(),
                    access_tokens_expire_at: Some(access_tokens_expire_at.into()),
                })
            }
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
