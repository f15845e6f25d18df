//! What is published next to one partition, without the publishing.
//!
//! A partition's events go out oldest first, in chunks, one chunk at a time. When a chunk
//! is refused because of a record, each of its records goes alone, which finds the culprit;
//! the user whose record was refused then waits, so that consumers see no gap.
//!
//! The first chunk on a connection that has not proven itself is one record, and each
//! further one at most twice as many as the one before. So a broker that takes a little at a
//! time (a quota) or stores what it does not acknowledge (its replicas are gone) gets a
//! chance to acknowledge the little, and at most that much arrives twice.

use std::collections::{HashSet, VecDeque};

use super::record::encoded_size;
use crate::{db::outbox::PendingEvent, model::UserId, outbox::publisher::Published};

/// Events whose records go out in one produce call.
pub(super) type Chunk<'a> = Vec<&'a PendingEvent>;

/// How large the first chunk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// One record, then two, four, ..: nothing was acknowledged on this connection yet.
    Slow,
    /// As large as any.
    Fast,
}

/// The events of one partition.
pub(super) struct Lane<'a> {
    waiting: VecDeque<Chunk<'a>>,
    blocked: HashSet<UserId>,
    pub(super) published: Published,
}

impl<'a> Lane<'a> {
    /// A lane of `events`, oldest first, whose chunks take at most `chunk_size` bytes. A
    /// record that is larger than that goes alone.
    pub(super) fn new(events: &[&'a PendingEvent], chunk_size: usize, start: Start) -> Self {
        Self {
            waiting: chunks(events, chunk_size, start),
            blocked: HashSet::new(),
            published: Published::default(),
        }
    }

    /// The next events to publish.
    pub(super) fn next(&mut self) -> Option<Chunk<'a>> {
        loop {
            let mut chunk = self.waiting.pop_front()?;
            chunk.retain(|event| !self.blocked.contains(&event.user_id));
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
    }

    /// The chunk arrived.
    pub(super) fn acknowledge(&mut self, chunk: &Chunk) {
        let ids = chunk.iter().map(|event| event.id);
        self.published.acknowledged.extend(ids);
    }

    /// The broker refused the chunk because of a record in it.
    pub(super) fn refuse(&mut self, chunk: &Chunk<'a>, reason: String) {
        if let [event] = chunk[..] {
            self.blocked.insert(event.user_id);
            self.published.refused.push((event.id, reason));
        } else {
            for event in chunk.iter().rev() {
                self.waiting.push_front(vec![event]);
            }
        }
    }
}

fn chunks<'a>(events: &[&'a PendingEvent], chunk_size: usize, start: Start) -> VecDeque<Chunk<'a>> {
    let mut chunks = VecDeque::<Chunk>::new();
    let mut left = 0;
    let mut most = match start {
        Start::Slow => 1,
        Start::Fast => usize::MAX,
    };
    for event in events {
        let size = encoded_size(event);
        match chunks.back_mut() {
            Some(chunk) if size <= left && chunk.len() < most => {
                chunk.push(event);
                left -= size;
            }
            last => {
                if last.is_some() {
                    most = most.saturating_mul(2);
                }
                chunks.push_back(vec![event]);
                left = chunk_size.saturating_sub(size);
            }
        }
    }
    chunks
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

    /// Publishes everything to a broker that refuses some records, in any company.
    fn run(events: &[PendingEvent], chunk_size: usize, refused: &[i64]) -> Published {
        let mut lane = Lane::new(&events.iter().collect::<Vec<_>>(), chunk_size, Start::Fast);
        while let Some(chunk) = lane.next() {
            if chunk.iter().any(|event| refused.contains(&event.id)) {
                lane.refuse(&chunk, "too large".to_owned());
            } else {
                lane.acknowledge(&chunk);
            }
        }
        lane.published
    }

    #[test]
    fn a_refused_record_holds_back_its_user_and_nobody_else() {
        let events = [
            event(1, 1, 1),
            event(2, 2, 1),
            event(3, 1, 2),
            event(4, 2, 2),
            event(5, 1, 3),
        ];
        let published = run(&events, 100_000, &[3]);
        assert_eq!(published.acknowledged, [1, 2, 4]);
        assert_eq!(published.refused, [(3, "too large".to_owned())]);
    }

    #[test]
    fn a_record_larger_than_a_chunk_goes_alone() {
        let mut events = [
            event(1, 1, 1),
            event(2, 2, 1),
            event(3, 3, 1),
            event(4, 4, 1),
        ];
        events[1].payload = vec![0; 10_000];
        let lane = Lane::new(&events.iter().collect::<Vec<_>>(), 5_000, Start::Fast);
        let lengths = lane.waiting.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths, [1, 1, 2]);
    }

    #[test]
    fn a_slow_start_doubles_from_one_record_to_a_full_chunk() {
        let events = (0..40).map(|id| event(id, 1, id)).collect::<Vec<_>>();
        let full = 12 * encoded_size(&events[0]);
        let lane = Lane::new(&events.iter().collect::<Vec<_>>(), full, Start::Slow);
        let lengths = lane.waiting.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths, [1, 2, 4, 8, 12, 12, 1]);
    }

    proptest! {
        #[test]
        fn events_go_out_in_order_in_small_chunks(
            payloads in prop::collection::vec(0_usize..3_000, 0..50),
            start in prop::sample::select(vec![Start::Slow, Start::Fast]),
        ) {
            let events = (1..).zip(payloads).map(|(id, size)| {
                PendingEvent { payload: vec![0; size], ..event(id, 1, id) }
            }).collect::<Vec<_>>();
            let lane = Lane::new(&events.iter().collect::<Vec<_>>(), 4_000, start);
            for chunk in &lane.waiting {
                let size = chunk.iter().map(|event| encoded_size(event)).sum::<usize>();
                prop_assert!(size <= 4_000);
            }
            let order = lane.waiting.iter().flatten().map(|event| event.id);
            prop_assert!(order.eq(events.iter().map(|event| event.id)));
        }

        #[test]
        fn a_user_never_skips_a_version(
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
