use std::time::Duration;

use super::{EventId, Timestamp, UserId};

/// Topics refuse records that are too old after hours or days, if at all
/// (`message.timestamp.before.max.ms`). A clock that was ahead is corrected sooner.
const OLD: Duration = Duration::from_hours(24);

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

impl PendingEvent {
    /// Whether Kafka can accept the event's time later, after it has refused it. It can if its
    /// clock has not reached that time. An event that is old becomes only older.
    pub fn may_become_timely(&self, now: Timestamp) -> bool {
        now.since(self.occurred_at) < OLD
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_time_is_waited_out_unless_it_is_long_past() {
        let now = Timestamp::from_micros(1_764_024_172_000_001);
        let event = |occurred_at| PendingEvent {
            id: 1,
            event_id: EventId::from_bytes([1; 16]),
            user_id: UserId::from_bytes([1; 16]),
            user_version: 1,
            event_type: "USER_CREATED".to_owned(),
            occurred_at,
            traceparent: None,
            payload: vec![],
        };
        let day = Duration::from_hours(24);
        let microsecond = Duration::from_micros(1);
        for ahead in [microsecond, Duration::from_hours(2), 365 * day] {
            assert!(event(now + ahead).may_become_timely(now), "{ahead:?}");
        }
        // A clock that is ahead itself sees the event in the past.
        assert!(event(now - day + microsecond).may_become_timely(now));
        assert!(!event(now - day).may_become_timely(now));
    }
}
