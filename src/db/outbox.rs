//! Placeholder; the founder writes this file.

use crate::{clock::Timestamp, id::{EventId, UserId}};

/// An event that waits to be published.
#[derive(Clone, Debug)]
pub struct PendingEvent {
    /// The row: its order among all events.
    pub id: i64,
    /// The same in every copy of the event.
    pub event_id: EventId,
    /// Whom it is about: the record's key.
    pub user_id: UserId,
    /// Counts 1, 2, 3, .. per user.
    pub user_version: i64,
    /// `USER_CREATED`, ..
    pub event_type: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The W3C trace context of the request that caused it.
    pub traceparent: Option<String>,
    /// The encoded `UserEvent`.
    pub payload: Vec<u8>,
}
