//! The document of `users export --user`.

use auth_service::model::{KeptMail, KeptSession, PersonalData, Timestamp};
use prost::DecodeError;
use serde::Serialize;

use super::event::EventData;
use crate::command::users::json::{SuspendedFor, Time};

#[derive(Serialize)]
pub(super) struct Person<'a> {
    user_id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<Time>,
    created_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_changed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspension: Option<SuspendedFor<'a>>,
    roles: Vec<&'a str>,
    roles_version: i64,
    event_version: i64,
    sessions: Vec<SessionData<'a>>,
    mails: Vec<MailData<'a>>,
    /// Not published yet.
    events: Vec<EventData<'a>>,
}

#[derive(Serialize)]
struct SessionData<'a> {
    session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<&'a str>,
    created_at: Time,
    last_used_at: Time,
    expires_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'a str>,
    live: bool,
}

#[derive(Serialize)]
struct MailData<'a> {
    mail_request_id: String,
    purpose: &'a str,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    requested_at: Time,
    expires_at: Time,
}

impl<'a> Person<'a> {
    pub(super) fn new(data: &'a PersonalData, now: Timestamp) -> Result<Self, DecodeError> {
        let user = &data.user;
        let events = data.events.iter().map(EventData::new);
        Ok(Self {
            user_id: user.id.to_string(),
            email: &user.email,
            email_verified_at: user.email_verified_at.map(Time),
            created_at: Time(user.created_at),
            password_changed_at: user.usable_password_set_at().map(Time),
            locale: data.locale.as_deref(),
            suspension: user.suspension.as_ref().map(SuspendedFor::new),
            roles: user.roles.iter().collect(),
            roles_version: user.roles_version,
            event_version: user.event_version,
            sessions: data
                .sessions
                .iter()
                .map(|it| SessionData::new(it, now))
                .collect(),
            mails: data.mails.iter().map(MailData::new).collect(),
            events: events.collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> SessionData<'a> {
    fn new(session: &'a KeptSession, now: Timestamp) -> Self {
        Self {
            session_id: session.id.to_string(),
            device_name: session.device_name.as_deref(),
            created_at: Time(session.created_at),
            last_used_at: Time(session.rotated_at),
            expires_at: Time(session.expires_at),
            ended_at: session.revoked_at.map(Time),
            end_reason: session.revoke_reason.as_deref(),
            live: session.revoked_at.is_none() && now < session.expires_at,
        }
    }
}

impl<'a> MailData<'a> {
    fn new(mail: &'a KeptMail) -> Self {
        Self {
            mail_request_id: mail.id.to_string(),
            purpose: &mail.purpose,
            email: &mail.email,
            locale: mail.locale.as_deref(),
            requested_at: Time(mail.requested_at),
            expires_at: Time(mail.expires_at),
        }
    }
}
