//! The payloads as messages of `user_event.proto`.

use prost_types::Timestamp as ProtoTimestamp;

use super::{PasswordChangeCause, Payload, SessionEndReason};
use crate::{
    model::{DeviceName, MailPurpose, Timestamp},
    proto::{self, user_event},
};

impl Payload {
    pub(super) fn encode(&self, now: Timestamp) -> user_event::Payload {
        match self {
            Self::UserCreated {
                email,
                created_at,
                imported,
            } => user_event::Payload::UserCreated(proto::UserCreated {
                email: email.as_str().to_owned(),
                created_at: Some((*created_at).into()),
                imported: *imported,
            }),
            Self::PasswordChanged { changed_at, cause } => {
                user_event::Payload::PasswordChanged(proto::PasswordChanged {
                    changed_at: Some((*changed_at).into()),
                    cause: cause.encode().into(),
                })
            }
            Self::MailRequested {
                request_id,
                purpose,
                expires_at,
            } => user_event::Payload::MailRequested(proto::MailRequested {
                request_id: request_id.to_string(),
                purpose: purpose.encode().into(),
                expires_at: Some((*expires_at).into()),
            }),
            Self::EmailVerified { email } => {
                user_event::Payload::EmailVerified(proto::EmailVerified {
                    email: email.clone(),
                    verified_at: Some(now.into()),
                })
            }
            Self::EmailChanged { old, new, reverted } => {
                user_event::Payload::EmailChanged(proto::EmailChanged {
                    old_email: old.clone(),
                    new_email: new.clone(),
                    changed_at: Some(now.into()),
                    reverted: *reverted,
                })
            }
            Self::UserDeleted => user_event::Payload::UserDeleted(proto::UserDeleted {
                deleted_at: Some(now.into()),
            }),
            Self::UserSuspended { reason, until } => {
                user_event::Payload::UserSuspended(proto::UserSuspended {
                    reason: reason.clone(),
                    until: until.map(Into::into),
                })
            }
            Self::UserRestored => user_event::Payload::UserRestored(proto::UserRestored {}),
            Self::RolesChanged { roles, version } => {
                user_event::Payload::RolesChanged(proto::RolesChanged {
                    roles: roles.to_list(),
                    version: *version,
                })
            }
            Self::SessionStarted {
                session_id,
                device_name,
                is_known,
                network,
            } => user_event::Payload::SessionStarted(proto::SessionStarted {
                session_id: session_id.to_string(),
                device_name: device_name
                    .as_ref()
                    .map_or("", DeviceName::as_str)
                    .to_owned(),
                known_device: *is_known,
                network: network.clone(),
            }),
            Self::SessionEnded {
                session_id,
                reason,
                access_tokens_expire_at,
            } => user_event::Payload::SessionEnded(proto::SessionEnded {
                session_id: session_id.to_string(),
                reason: reason.encode().into(),
                access_tokens_expire_at: Some((*access_tokens_expire_at).into()),
            }),
        }
    }
}

impl MailPurpose {
    pub const fn encode(self) -> proto::MailPurpose {
        match self {
            Self::VerifyEmail => proto::MailPurpose::VerifyEmail,
            Self::ResetPassword => proto::MailPurpose::ResetPassword,
            Self::ChangeEmail => proto::MailPurpose::ChangeEmail,
            Self::RevertEmail => proto::MailPurpose::RevertEmail,
        }
    }
}

impl PasswordChangeCause {
    const fn encode(self) -> proto::PasswordChangeCause {
        match self {
            Self::Changed => proto::PasswordChangeCause::Changed,
            Self::Reset => proto::PasswordChangeCause::Reset,
            Self::Invalidated => proto::PasswordChangeCause::Invalidated,
        }
    }
}

impl SessionEndReason {
    const fn encode(self) -> proto::SessionEndReason {
        match self {
            Self::Logout => proto::SessionEndReason::Logout,
            Self::Reuse => proto::SessionEndReason::Reuse,
            Self::EndedByUser => proto::SessionEndReason::EndedByUser,
            Self::PasswordChanged => proto::SessionEndReason::PasswordChanged,
            Self::PasswordReset => proto::SessionEndReason::PasswordReset,
            Self::EmailChanged => proto::SessionEndReason::EmailChanged,
            Self::EmailReverted => proto::SessionEndReason::EmailReverted,
            Self::Suspended => proto::SessionEndReason::Suspended,
            Self::EndedByAdmin => proto::SessionEndReason::EndedByAdmin,
            Self::PasswordInvalidated => proto::SessionEndReason::PasswordInvalidated,
            Self::AccountDeleted => proto::SessionEndReason::AccountDeleted,
            Self::TooMany => proto::SessionEndReason::TooMany,
        }
    }
}

impl From<Timestamp> for ProtoTimestamp {
    fn from(time: Timestamp) -> Self {
        let micros = time.as_micros();
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).expect("below 10^9");
        let seconds = time.as_secs();
        Self { seconds, nanos }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::model::{Act, Email, Event, MailRequestId, Roles, SessionId, UserId};

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_001);
    const LATER: Timestamp = Timestamp::from_micros(1_764_024_173_000_001);

    type Case = (&'static str, Payload, user_event::Payload);

    fn assert_encoded(cases: impl IntoIterator<Item = Case>) {
        let act = Act {
            now: NOW,
            traceparent: None,
            administrator: None,
        };
        for (event_type, payload, expected) in cases {
            let event = Event::new(UserId::new(NOW), payload, &act);
            let message = proto::UserEvent::decode(&event.encode(1)[..]).unwrap();
            assert_eq!(event.event_type(), event_type);
            assert!(message.payload == Some(expected), "{event_type}");
        }
    }

    #[test]
    fn the_events_of_accounts_are_encoded_with_their_types() {
        let email = Email::parse("ana@example.com").unwrap();
        assert_encoded([
            (
                "USER_CREATED",
                Payload::UserCreated {
                    email,
                    created_at: LATER,
                    imported: true,
                },
                user_event::Payload::UserCreated(proto::UserCreated {
                    email: "ana@example.com".to_owned(),
                    created_at: Some(LATER.into()),
                    imported: true,
                }),
            ),
            (
                "USER_SUSPENDED",
                Payload::UserSuspended {
                    reason: "spam".to_owned(),
                    until: Some(LATER),
                },
                user_event::Payload::UserSuspended(proto::UserSuspended {
                    reason: "spam".to_owned(),
                    until: Some(LATER.into()),
                }),
            ),
            (
                "USER_RESTORED",
                Payload::UserRestored,
                user_event::Payload::UserRestored(proto::UserRestored {}),
            ),
            (
                "ROLES_CHANGED",
                Payload::RolesChanged {
                    roles: Roles::parse(&["moderator", "billing"]).unwrap(),
                    version: 3,
                },
                user_event::Payload::RolesChanged(proto::RolesChanged {
                    roles: vec!["moderator".to_owned(), "billing".to_owned()],
                    version: 3,
                }),
            ),
        ]);
    }

    #[test]
    fn the_events_of_mails_and_passwords_are_encoded_with_their_types() {
        let request_id = MailRequestId::new(NOW);
        assert_encoded([
            (
                "PASSWORD_CHANGED",
                Payload::PasswordChanged {
                    changed_at: LATER,
                    cause: PasswordChangeCause::Reset,
                },
                user_event::Payload::PasswordChanged(proto::PasswordChanged {
                    changed_at: Some(LATER.into()),
                    cause: proto::PasswordChangeCause::Reset.into(),
                }),
            ),
            (
                "MAIL_REQUESTED",
                Payload::MailRequested {
                    request_id,
                    purpose: MailPurpose::ResetPassword,
                    expires_at: LATER,
                },
                user_event::Payload::MailRequested(proto::MailRequested {
                    request_id: request_id.to_string(),
                    purpose: proto::MailPurpose::ResetPassword.into(),
                    expires_at: Some(LATER.into()),
                }),
            ),
            (
                "EMAIL_CHANGED",
                Payload::EmailChanged {
                    old: "ana@example.com".to_owned(),
                    new: "ana@example.org".to_owned(),
                    reverted: true,
                },
                user_event::Payload::EmailChanged(proto::EmailChanged {
                    old_email: "ana@example.com".to_owned(),
                    new_email: "ana@example.org".to_owned(),
                    changed_at: Some(NOW.into()),
                    reverted: true,
                }),
            ),
            (
                "EMAIL_VERIFIED",
                Payload::EmailVerified {
                    email: "ana@example.com".to_owned(),
                },
                user_event::Payload::EmailVerified(proto::EmailVerified {
                    email: "ana@example.com".to_owned(),
                    verified_at: Some(NOW.into()),
                }),
            ),
        ]);
    }

    #[test]
    fn the_events_of_sessions_are_encoded_with_their_types() {
        let session_id = SessionId::new(NOW);
        assert_encoded([
            (
                "SESSION_STARTED",
                Payload::SessionStarted {
                    session_id,
                    device_name: None,
                    is_known: true,
                    network: "192.0.2.0/24".to_owned(),
                },
                user_event::Payload::SessionStarted(proto::SessionStarted {
                    session_id: session_id.to_string(),
                    device_name: String::new(),
                    known_device: true,
                    network: "192.0.2.0/24".to_owned(),
                }),
            ),
            (
                "SESSION_ENDED",
                Payload::SessionEnded {
                    session_id,
                    reason: SessionEndReason::Reuse,
                    access_tokens_expire_at: LATER,
                },
                user_event::Payload::SessionEnded(proto::SessionEnded {
                    session_id: session_id.to_string(),
                    reason: proto::SessionEndReason::Reuse.into(),
                    access_tokens_expire_at: Some(LATER.into()),
                }),
            ),
        ]);
    }

    #[test]
    fn a_time_before_1970_has_nanoseconds_from_zero_on() {
        let time = ProtoTimestamp::from(Timestamp::from_micros(-1));
        assert_eq!((time.seconds, time.nanos), (-1, 999_999_000));
    }
}
