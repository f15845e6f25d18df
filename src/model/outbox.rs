use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::{EventId, Timestamp, UserId};

/// Topics refuse records that are too old after hours or days, if at all
/// (`message.timestamp.before.max.ms`). A clock that was ahead is corrected sooner.
const OLD: Duration = Duration::from_hours(24);

#[derive(Clone)]
pub struct PendingEvent {
    /// The row id. It says nothing about the order of a user's events.
    pub id: i64,
    pub event_id: EventId,
    /// The key of the record.
    pub user_id: UserId,
    /// Counts 1, 2, 3, .. per user. A user's events are published in this order.
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

/// Events to publish, in this order.
pub struct Batch {
    pub events: Vec<PendingEvent>,
    /// The row id of the last event that was read, if there may be more.
    pub last_of_full: Option<i64>,
}

/// An event that was read from the outbox, and the version of the event before it: the last of
/// the same user's that is still in the outbox and has a lower version.
pub type ReadEvent = (PendingEvent, Option<i64>);

/// The events that can be published. The events of a user stay at the positions where they were
/// read, but in the order of their versions. An event whose predecessor was not read is left
/// out, with the later ones of its user.
pub fn in_user_order(mut read: Vec<ReadEvent>) -> Vec<PendingEvent> {
    let places: Vec<_> = read.iter().map(|(event, _)| event.user_id).collect();
    read.sort_by_key(|(event, _)| event.user_version);
    let mut of_user = HashMap::<UserId, VecDeque<ReadEvent>>::new();
    for (event, before) in read {
        let queue = of_user.entry(event.user_id).or_default();
        queue.push_back((event, before));
    }
    let mut last = HashMap::new();
    let in_order = places.into_iter().filter_map(|user| {
        let (event, before) = of_user.get_mut(&user)?.pop_front()?;
        let is_next = before <= last.get(&user).copied();
        is_next.then(|| {
            last.insert(user, event.user_version);
            event
        })
    });
    in_order.collect()
}

/// The users none of whose events can be published, because their first one was not read.
pub fn users_without_first(read: &[ReadEvent]) -> Vec<UserId> {
    let first = read.iter().filter(|(_, before)| before.is_none());
    let first: HashSet<_> = first.map(|(event, _)| event.user_id).collect();
    let users: HashSet<_> = read.iter().map(|(event, _)| event.user_id).collect();
    users.difference(&first).copied().collect()
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refused_time_is_waited_out_unless_it_is_long_past() {
        let now = Timestamp::from_micros(1_764_024_172_000_001);
        let event = |occurred_at| PendingEvent {
            occurred_at,
            ..event(1, 1, 1)
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

    fn event(id: i64, user: u8, user_version: i64) -> PendingEvent {
        PendingEvent {
            id,
            event_id: EventId::from_bytes([0; 16]),
            user_id: UserId::from_bytes([user; 16]),
            user_version,
            event_type: String::new(),
            occurred_at: Timestamp::from_micros(0),
            traceparent: None,
            payload: Vec::new(),
        }
    }

    /// The events with these places in the outbox, as the database returns them.
    fn read(outbox: &[(u8, i64)], rows: impl Iterator<Item = usize>) -> Vec<ReadEvent> {
        let read = rows.map(|row| {
            let (user, version) = outbox[row];
            let earlier = outbox.iter().filter(|(other, _)| *other == user);
            let before = earlier
                .map(|(_, version)| *version)
                .filter(|other| *other < version);
            (
                event(i64::try_from(row).expect("small"), user, version),
                before.max(),
            )
        });
        read.collect()
    }

    fn versions(events: &[PendingEvent]) -> Vec<(u8, i64)> {
        let versions = events
            .iter()
            .map(|event| (event.user_id.as_bytes()[0], event.user_version));
        versions.collect()
    }

    #[test]
    fn the_versions_decide_and_not_the_ids() {
        let outbox = [(1, 3), (2, 7), (1, 1), (2, 4), (1, 2)];
        let events = in_user_order(read(&outbox, 0..5));
        assert_eq!(versions(&events), [(1, 1), (2, 4), (1, 2), (2, 7), (1, 3)]);
    }

    #[test]
    fn an_event_waits_for_one_that_was_not_read() {
        let outbox = [(1, 3), (2, 2), (1, 1), (3, 1), (1, 2), (2, 1)];
        let few = read(&outbox, 0..4);
        assert_eq!(versions(&in_user_order(few.clone())), [(1, 1), (3, 1)]);
        assert_eq!(users_without_first(&few), [UserId::from_bytes([2; 16])]);
    }

    proptest! {
        #[test]
        fn each_event_goes_once_and_in_order_however_the_ids_lie(
            order in Just((0..40_u8).map(|n| (n % 5, i64::from(n / 5 + 1))).collect::<Vec<_>>())
                .prop_shuffle(),
            window in 1_usize..40,
        ) {
            let mut outbox = order;
            let mut sent: HashMap<u8, i64> = HashMap::new();
            while !outbox.is_empty() {
                let mut rows: Vec<_> = (0..window.min(outbox.len())).collect();
                let stuck = users_without_first(&read(&outbox, rows.iter().copied()));
                // As `Db::pending_events` does: the first event of each such user.
                for user in stuck {
                    let first = outbox.iter().enumerate();
                    let first = first.filter(|(_, (other, _))| [*other; 16] == *user.as_bytes());
                    rows.push(first.min_by_key(|(_, (_, version))| *version).expect("one").0);
                }
                let events = in_user_order(read(&outbox, rows.into_iter()));
                prop_assert!(!events.is_empty(), "no progress");
                for (user, version) in versions(&events) {
                    prop_assert_eq!(sent.insert(user, version).unwrap_or(0) + 1, version);
                }
                let gone: BTreeSet<_> = versions(&events).into_iter().collect();
                outbox.retain(|event| !gone.contains(event));
            }
        }
    }
}
