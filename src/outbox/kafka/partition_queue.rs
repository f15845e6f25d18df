//! Splits the events of one partition into produce requests. It does no I/O.
//!
//! The events keep their order, one request at a time. When Kafka refuses a request because of
//! a record in it, each of its records is sent alone to find that record. The later events of
//! its user are then left out, so that consumers see no gap.

use std::collections::{HashSet, VecDeque};

use super::record::encoded_size;
use crate::{
    model::{PendingEvent, UserId},
    outbox::publisher::Published,
};

/// The events of one produce request.
pub(super) type Request<'a> = Vec<&'a PendingEvent>;

/// The size of the first requests of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// One record, then at most two, four, ..: see "Slow start" in [`crate::outbox`].
    SlowStart,
    /// As large as a request may be.
    Full,
}

/// Why Kafka refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A record in it is invalid, for this reason.
    Record(String),
    /// The time of a record in it is out of range.
    Time,
}

/// The unsent events of one partition, and the results of the others.
pub(super) struct PartitionQueue<'a> {
    requests: VecDeque<Request<'a>>,
    blocked_users: HashSet<UserId>,
    pub(super) published: Published,
}

impl<'a> PartitionQueue<'a> {
    /// `events` are in the order to send. The records of a request take at most `max_size`
    /// bytes; a record that is larger than that is sent alone.
    pub(super) fn new(events: &[&'a PendingEvent], max_size: usize, pace: Pace) -> Self {
        Self {
            requests: split(events, max_size, pace),
            blocked_users: HashSet::new(),
            published: Published::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<Request<'a>> {
        loop {
            let mut request = self.requests.pop_front()?;
            request.retain(|event| !self.blocked_users.contains(&event.user_id));
            if !request.is_empty() {
                return Some(request);
            }
        }
    }

    pub(super) fn acknowledge(&mut self, request: &Request) {
        let ids = request.iter().map(|event| event.id);
        self.published.acknowledged.extend(ids);
    }

    /// Kafka refused the request because of a record in it.
    pub(super) fn refuse(&mut self, request: &Request<'a>, refusal: Refusal) {
        if let [event] = request[..] {
            self.blocked_users.insert(event.user_id);
            match refusal {
                Refusal::Record(reason) => self.published.refused.push((event.id, reason)),
                Refusal::Time => self.published.untimely.push(event.id),
            }
        } else {
            for event in request.iter().rev() {
                self.requests.push_front(vec![event]);
            }
        }
    }
}

fn split<'a>(events: &[&'a PendingEvent], max_size: usize, pace: Pace) -> VecDeque<Request<'a>> {
    let mut requests = VecDeque::<Request>::new();
    let mut bytes_left = 0;
    let mut max_records = match pace {
        Pace::SlowStart => 1,
        Pace::Full => usize::MAX,
    };
    for event in events {
        let size = encoded_size(event);
        match requests.back_mut() {
            Some(request) if size <= bytes_left && request.len() < max_records => {
                request.push(event);
                bytes_left -= size;
            }
            last => {
                if last.is_some() {
                    max_records = max_records.saturating_mul(2);
                }
                requests.push_back(vec![event]);
                bytes_left = max_size.saturating_sub(size);
            }
        }
    }
    requests
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{EventId, Timestamp};

    pub(in crate::outbox::kafka) fn event(id: i64, user: u8, user_version: i64) -> PendingEvent {
        PendingEvent {
            id,
            event_id: EventId::from_bytes([u8::try_from(id % 256).expect("below 256"); 16]),
            user_id: UserId::from_bytes([user; 16]),
            user_version,
            event_type: "USER_CREATED".to_owned(),
            occurred_at: Timestamp::from_micros(1_764_024_172_000_001),
            traceparent: None,
            payload: vec![0; 100],
        }
    }

    fn queue(events: &[PendingEvent], max_size: usize, pace: Pace) -> PartitionQueue<'_> {
        PartitionQueue::new(&events.iter().collect::<Vec<_>>(), max_size, pace)
    }

    /// Publishes everything to a broker that refuses each request with one of these records.
    fn run(events: &[PendingEvent], max_size: usize, refused: &[i64]) -> Published {
        let mut queue = queue(events, max_size, Pace::Full);
        while let Some(request) = queue.next() {
            if request.iter().any(|event| refused.contains(&event.id)) {
                queue.refuse(&request, Refusal::Record("too large".to_owned()));
            } else {
                queue.acknowledge(&request);
            }
        }
        queue.published
    }

    #[test]
    fn a_refused_record_holds_up_its_user_only() {
        let events = [(1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 2, 2), (5, 1, 3)]
            .map(|(id, user, version)| event(id, user, version));
        let published = run(&events, 100_000, &[3]);
        assert_eq!(published.acknowledged, [1, 2, 4]);
        assert_eq!(published.refused, [(3, "too large".to_owned())]);
    }

    #[test]
    fn a_refused_time_holds_up_its_user_only() {
        let events =
            [(1, 1, 1), (2, 2, 1), (3, 1, 2)].map(|(id, user, version)| event(id, user, version));
        let mut queue = queue(&events, 100_000, Pace::Full);
        while let Some(request) = queue.next() {
            if request.iter().any(|event| event.id == 1) {
                queue.refuse(&request, Refusal::Time);
            } else {
                queue.acknowledge(&request);
            }
        }
        assert_eq!(queue.published.untimely, [1]);
        assert_eq!(queue.published.acknowledged, [2]);
        assert!(queue.published.refused.is_empty());
    }

    #[test]
    fn a_record_larger_than_a_request_is_sent_alone() {
        let mut events = [1_u8, 2, 3, 4].map(|n| event(n.into(), n, 1));
        events[1].payload = vec![0; 10_000];
        let queue = queue(&events, 5_000, Pace::Full);
        assert!(queue.requests.iter().map(Vec::len).eq([1, 1, 2]));
    }

    #[test]
    fn a_slow_start_doubles_from_one_record_to_a_full_request() {
        let events = (0..40).map(|id| event(id, 1, id)).collect::<Vec<_>>();
        let full = 12 * encoded_size(&events[0]);
        let queue = queue(&events, full, Pace::SlowStart);
        let lengths = queue.requests.iter().map(Vec::len);
        assert!(lengths.eq([1, 2, 4, 8, 12, 12, 1]));
    }

    proptest! {
        #[test]
        fn events_are_sent_in_order_in_small_requests(
            payloads in prop::collection::vec(0_usize..3_000, 0..50),
            pace in prop::sample::select(vec![Pace::SlowStart, Pace::Full]),
        ) {
            let events = (1..).zip(payloads).map(|(id, size)| {
                PendingEvent { payload: vec![0; size], ..event(id, 1, id) }
            }).collect::<Vec<_>>();
            let queue = queue(&events, 4_000, pace);
            for request in &queue.requests {
                let size = request.iter().map(|event| encoded_size(event)).sum::<usize>();
                prop_assert!(size <= 4_000);
            }
            let order = queue.requests.iter().flatten().map(|event| event.id);
            prop_assert!(order.eq(events.iter().map(|event| event.id)));
        }

        #[test]
        fn no_version_of_a_user_is_skipped(
            users in prop::collection::vec(0_u8..4, 0..40),
            refused in prop::collection::vec(0_i64..40, 0..5),
        ) {
            let events = (0..).zip(users).map(|(id, user)| event(id, user, id)).collect::<Vec<_>>();
            let published = run(&events, 1_500, &refused);
            for event in &events {
                let behind_a_refused_one = events.iter().any(|earlier| {
                    earlier.user_id == event.user_id && earlier.id <= event.id && refused.contains(&earlier.id)
                });
                prop_assert_eq!(published.acknowledged.contains(&event.id), !behind_a_refused_one);
            }
            prop_assert!(published.acknowledged.is_sorted());
        }
    }
}
