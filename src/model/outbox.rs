use super::{EventId, Timestamp, UserId};

#[derive(Clone)]
pub struct PendingEvent {
    /// The row id. Events are published in this order.
    pub id: i64,
    pub event_id: EventId,
    /// The key of the record.
    pub user_id: UserId,
    /// Counts 1, 2, 3, .. per user.
    pub user_version: i64,
    /// The header `ce_type`.
    pub event_type: String,
    pub occurred_at: Timestamp,
    /// The W3C trace context of the request that caused it.
    pub traceparent: Option<String>,
    /// The encoded `UserEvent`.
    pub payload: Vec<u8>,
}

/// An event that Kafka refused, and that blocks the later ones of its user.
#[derive(Debug)]
pub struct ParkedEvent {
    pub event_id: EventId,
    pub user_id: UserId,
    pub user_version: i64,
    pub event_type: String,
    pub parked_at: Option<Timestamp>,
    pub parked_reason: Option<String>,
}

#[derive(Debug)]
pub struct Backlog {
    /// The number of events without the parked ones. An upper bound if there are very many.
    pub pending: i64,
    /// The time of the oldest pending event.
    pub oldest: Option<Timestamp>,
    pub parked: i64,
}
