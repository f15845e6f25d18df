//! The events about users that go to Kafka: the payloads of `user_event.proto`.
//!
//! A use case creates the event. The transaction of the act encodes it once, when it knows the
//! event's `user_version`.

mod encode;

use std::time::Duration;

use prost::Message as _;

use super::{
    Administrator, DeviceName, Email, EventId, MailPurpose, MailRequest, MailRequestId, Roles,
    SessionId, Timestamp, TokenTimes, Traceparent, UserId,
};
use crate::proto;

/// Data that all events of one act share.
#[derive(Clone, Debug)]
pub struct Act {
    pub now: Timestamp,
    pub traceparent: Option<Traceparent>,
    /// `None` for an act of the user or of the service.
    pub administrator: Option<Administrator>,
}

/// An event that has no `user_version` yet.
#[derive(Clone)]
pub struct Event {
    pub id: EventId,
    pub user_id: UserId,
    pub act: Act,
    pub payload: Payload,
}

#[derive(Clone)]
pub enum Payload {
    UserCreated {
        email: Email,
        created_at: Timestamp,
        /// Whether another system had the account before.
        imported: bool,
    },
    PasswordChanged {
        changed_at: Timestamp,
        cause: PasswordChangeCause,
    },
    MailRequested {
        request_id: MailRequestId,
        purpose: MailPurpose,
        /// The last moment to claim it.
        expires_at: Timestamp,
    },
    EmailVerified {
        email: String,
    },
    EmailChanged {
        old: String,
        new: String,
        reverted: bool,
    },
    SessionStarted {
        session_id: SessionId,
        device_name: Option<DeviceName>,
        is_known: bool,
        /// Empty if it is not wanted or not known.
        network: String,
    },
    SessionEnded {
        session_id: SessionId,
        reason: SessionEndReason,
        /// No access token of the session expires later.
        access_tokens_expire_at: Timestamp,
    },
    UserDeleted,
    UserSuspended {
        reason: String,
        until: Option<Timestamp>,
    },
    UserRestored,
    RolesChanged {
        roles: Roles,
        version: i64,
    },
}

/// How a password was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordChangeCause {
    /// The user knew the old one.
    Changed,
    /// The user had a mail with a token.
    Reset,
    /// The owner of an earlier address has undone a change, or an administrator did it.
    Invalidated,
}

/// Why a session was ended before it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEndReason {
    Logout,
    /// An old refresh token was presented.
    Reuse,
    /// The user ended it from another session.
    EndedByUser,
    /// The user changed the password in another session.
    PasswordChanged,
    /// The user replaced a forgotten password.
    PasswordReset,
    /// The user changed the address in another session.
    EmailChanged,
    /// The owner of an earlier address has undone a change.
    EmailReverted,
    /// An administrator suspended the account.
    Suspended,
    /// An administrator ended it.
    EndedByAdmin,
    /// An administrator made the password unusable.
    PasswordInvalidated,
    AccountDeleted,
    /// The user started more sessions than allowed; this was the oldest.
    TooMany,
}

/// The reason for ending sessions, and the token lifetime that their events need.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd {
    pub reason: SessionEndReason,
    pub access_token_ttl: Duration,
}

impl Event {
    pub fn new(user_id: UserId, payload: Payload, act: &Act) -> Self {
        Self {
            id: EventId::new(act.now),
            user_id,
            act: act.clone(),
            payload,
        }
    }

    /// The header `ce_type`.
    pub const fn event_type(&self) -> &'static str {
        match self.payload {
            Payload::UserCreated { .. } => "USER_CREATED",
            Payload::PasswordChanged { .. } => "PASSWORD_CHANGED",
            Payload::MailRequested { .. } => "MAIL_REQUESTED",
            Payload::EmailVerified { .. } => "EMAIL_VERIFIED",
            Payload::EmailChanged { .. } => "EMAIL_CHANGED",
            Payload::SessionStarted { .. } => "SESSION_STARTED",
            Payload::SessionEnded { .. } => "SESSION_ENDED",
            Payload::UserDeleted => "USER_DELETED",
            Payload::UserSuspended { .. } => "USER_SUSPENDED",
            Payload::UserRestored => "USER_RESTORED",
            Payload::RolesChanged { .. } => "ROLES_CHANGED",
        }
    }

    /// The `UserEvent`: the value of the Kafka record.
    pub fn encode(&self, user_version: i64) -> Vec<u8> {
        proto::UserEvent {
            event_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            user_version,
            occurred_at: Some(self.act.now.into()),
            actor: self.actor(),
            payload: Some(self.payload.encode(self.act.now)),
        }
        .encode_to_vec()
    }

    /// The party that acted.
    fn actor(&self) -> String {
        let administrator = self.act.administrator.as_ref();
        administrator.map_or_else(|| self.payload.actor().to_owned(), ToString::to_string)
    }
}

impl Payload {
    pub fn mail_requested(request: &MailRequest) -> Self {
        Self::MailRequested {
            request_id: request.id,
            purpose: request.purpose,
            expires_at: request.claim_until(),
        }
    }

    /// The party that acted, unless it was an administrator.
    const fn actor(&self) -> &'static str {
        match self {
            Self::SessionEnded {
                reason: SessionEndReason::Reuse | SessionEndReason::TooMany,
                ..
            } => "service",
            _ => "user",
        }
    }
}

impl SessionEndReason {
    /// The value of the column `revoke_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::EndedByUser => "ended_by_user",
            Self::PasswordChanged => "password_changed",
            Self::PasswordReset => "password_reset",
            Self::EmailChanged => "email_changed",
            Self::EmailReverted => "email_reverted",
            Self::Suspended => "suspended",
            Self::EndedByAdmin => "ended_by_admin",
            Self::PasswordInvalidated => "password_invalidated",
            Self::AccountDeleted => "account_deleted",
            Self::TooMany => "too_many",
        }
    }
}

impl SessionEnd {
    /// The payload for one session.
    pub fn of(self, session_id: SessionId, times: TokenTimes, act: &Act) -> Payload {
        Payload::SessionEnded {
            session_id,
            reason: self.reason,
            access_tokens_expire_at: self.tokens_expire_at(times, act),
        }
    }

    /// No access token of a session expires later.
    ///
    /// The row knows when its tokens expire, also those that another replica issued: with
    /// another lifetime, or by a clock that is ahead. An older version did not write that
    /// column, so the lifetime of this replica counts from the last moment at which a token was
    /// issued.
    pub fn tokens_expire_at(self, times: TokenTimes, act: &Act) -> Timestamp {
        let by_own_ttl = act.now.max(times.rotated_at) + self.access_token_ttl;
        match times.access_tokens_expire_at {
            Some(stored) => stored.max(by_own_ttl).min(times.ends_at),
            // That version did not end tokens with their session.
            None => by_own_ttl,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_types::Timestamp as ProtoTimestamp;

    use super::*;
    use crate::{model::Person, proto::user_event};

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_001);

    fn act(now: Timestamp) -> Act {
        Act {
            now,
            traceparent: None,
            administrator: None,
        }
    }

    fn encoded(payload: Payload, version: i64) -> (Event, proto::UserEvent) {
        let event = Event::new(UserId::new(NOW), payload, &act(NOW));
        let bytes = event.encode(version);
        (event, proto::UserEvent::decode(&bytes[..]).unwrap())
    }

    #[test]
    fn an_event_carries_its_ids_its_version_and_the_time_of_the_act() {
        let (event, message) = encoded(Payload::UserDeleted, 7);
        assert_eq!(message.event_id, event.id.to_string());
        assert_eq!(message.user_id, event.user_id.to_string());
        assert_eq!(message.user_version, 7);
        let (seconds, nanos) = (1_764_024_172, 1000);
        let now = ProtoTimestamp { seconds, nanos };
        assert_eq!(message.occurred_at, Some(now));
        let deleted_at = Some(now);
        let payload = user_event::Payload::UserDeleted(proto::UserDeleted { deleted_at });
        assert!(message.payload == Some(payload));
    }

    #[test]
    fn an_act_of_an_administrator_has_the_service_and_the_person_as_actor() {
        let administrator = Administrator {
            caller: "support".to_owned(),
            person: Person::parse("mia").ok(),
        };
        let act = Act {
            administrator: Some(administrator),
            ..act(NOW)
        };
        let bytes = Event::new(UserId::new(NOW), Payload::UserDeleted, &act).encode(1);
        let message = proto::UserEvent::decode(&bytes[..]).unwrap();
        assert_eq!(message.actor, "admin:support/mia");
    }

    proptest! {
        #[test]
        fn no_access_token_outlives_the_announced_expiry(
            [ended_at, rotated_at, ends_at, stored] in prop::array::uniform4(0..i64::MAX / 2),
            is_stored: bool,
            ttl in 0_u64..1 << 40,
        ) {
            let [ended_at, rotated_at, ends_at, stored] =
                [ended_at, rotated_at, ends_at, stored].map(Timestamp::from_micros);
            let end = SessionEnd {
                reason: SessionEndReason::Logout,
                access_token_ttl: Duration::from_micros(ttl),
            };
            let access_tokens_expire_at = is_stored.then_some(stored);
            let times = TokenTimes { rotated_at, is_rotated: true, ends_at, access_tokens_expire_at };
            let payload = end.of(SessionId::new(NOW), times, &act(ended_at));
            let Payload::SessionEnded { access_tokens_expire_at: announced, .. } = payload else {
                panic!("another payload");
            };
            for expires_at in [ended_at + end.access_token_ttl, rotated_at + end.access_token_ttl] {
                prop_assert!(announced >= expires_at.min(ends_at));
            }
            prop_assert!(access_tokens_expire_at.is_none_or(|at| announced >= at.min(ends_at)));
            prop_assert!(!is_stored || announced <= ends_at, "no token outlives the session");
        }
    }
}
