//! The events in the document: the fields of the messages of `user_event.proto`.

use auth_service::{
    model::{KeptEvent, Timestamp},
    proto::{UserEvent, user_event::Payload},
};
use prost::{DecodeError, Message as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::users::json::Time;

#[derive(Serialize)]
pub(super) struct EventData<'a> {
    event_id: String,
    event_type: &'a str,
    user_version: i64,
    occurred_at: Time,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl<'a> EventData<'a> {
    pub(super) fn new(event: &'a KeptEvent) -> Result<Self, DecodeError> {
        let message = UserEvent::decode(&*event.payload)?;
        Ok(Self {
            event_id: event.id.to_string(),
            event_type: &event.event_type,
            user_version: event.user_version,
            occurred_at: Time(event.occurred_at),
            actor: message.actor,
            data: message.payload.as_ref().map(data),
        })
    }
}

fn data(payload: &Payload) -> Value {
    match payload {
        Payload::UserCreated(it) => json!({
            "email": it.email,
            "created_at": time(it.created_at),
            "imported": it.imported,
        }),
        Payload::PasswordChanged(it) => json!({
            "changed_at": time(it.changed_at),
            "cause": it.cause().as_str_name(),
        }),
        Payload::SessionStarted(it) => json!({
            "session_id": it.session_id,
            "device_name": it.device_name,
            "known_device": it.known_device,
            "network": it.network,
        }),
        Payload::SessionEnded(it) => json!({
            "session_id": it.session_id,
            "reason": it.reason().as_str_name(),
            "access_tokens_expire_at": time(it.access_tokens_expire_at),
        }),
        Payload::UserDeleted(it) => json!({ "deleted_at": time(it.deleted_at) }),
        Payload::MailRequested(it) => json!({
            "request_id": it.request_id,
            "purpose": it.purpose().as_str_name(),
            "expires_at": time(it.expires_at),
        }),
        Payload::EmailVerified(it) => json!({
            "email": it.email,
            "verified_at": time(it.verified_at),
        }),
        Payload::EmailChanged(it) => json!({
            "old_email": it.old_email,
            "new_email": it.new_email,
            "changed_at": time(it.changed_at),
            "reverted": it.reverted,
        }),
        Payload::UserSuspended(it) => json!({ "reason": it.reason, "until": time(it.until) }),
        Payload::UserRestored(_) => json!({}),
        Payload::RolesChanged(it) => json!({ "roles": it.roles, "version": it.version }),
    }
}

/// `null` without a time.
fn time(at: Option<prost_types::Timestamp>) -> Option<Time> {
    at.map(|at| {
        let micros = at.seconds.saturating_mul(1_000_000);
        Time(Timestamp::from_micros(
            micros.saturating_add(i64::from(at.nanos / 1000)),
        ))
    })
}
