//! The broker of the model, and a poller's line to it.
//!
//! A call keeps the promise of [`Publisher::publish`], and nothing else: in order within a
//! partition, the next records only after the ones before were acknowledged, none of a user
//! behind a refused one. It ignores until when the lease lasts.

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::{
    model::{PendingEvent, UserId},
    outbox::{
        partition::partition,
        publisher::{BatchInPass, PublishError, Published, Publisher},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::PARTITIONS;
use crate::harness::Copy as Stored;

/// What becomes of records that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are stored, and the poller hears of it.
    Acknowledged,
    /// The same, but the client sent them twice (a throttled reply).
    StoredTwice,
    /// They are stored, and the poller does not hear of it.
    ReplyLost,
    /// They are lost.
    NeverArrives,
    /// The poller gives up, and then they are stored (a broker that was frozen).
    ArrivesLater,
    /// The first one is refused.
    Refused,
}

/// The topic.
#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<Topic>>);

#[derive(Default)]
struct Topic {
    stored: Vec<Stored>,
    on_the_way: Vec<Vec<PendingEvent>>,
}

impl Broker {
    /// All records, in the order in which they were stored.
    pub fn copies(&self) -> Vec<Stored> {
        self.0.lock().unwrap().stored.clone()
    }

    /// Stores one of the sendings that are still on the way. Says whether there was one.
    pub fn arrive(&self, which: usize) -> bool {
        let mut topic = self.0.lock().unwrap();
        if topic.on_the_way.is_empty() {
            return false;
        }
        let which = which % topic.on_the_way.len();
        let events = topic.on_the_way.remove(which);
        topic.store(&events);
        true
    }

    fn send(&self, events: &[PendingEvent], fate: Fate) {
        let mut topic = self.0.lock().unwrap();
        match fate {
            Fate::Acknowledged | Fate::ReplyLost => topic.store(events),
            Fate::StoredTwice => {
                topic.store(events);
                topic.store(events);
            }
            Fate::ArrivesLater => topic.on_the_way.push(events.to_vec()),
            Fate::NeverArrives | Fate::Refused => {}
        }
    }
}

impl Topic {
    fn store(&mut self, events: &[PendingEvent]) {
        self.stored.extend(events.iter().map(stored));
    }
}

fn partition_of(event: &PendingEvent) -> usize {
    let partitions = NonZeroUsize::new(PARTITIONS).expect("not zero");
    partition(event.user_id.to_string().as_bytes(), partitions)
}

fn stored(event: &PendingEvent) -> Stored {
    Stored {
        partition: i32::try_from(partition_of(event)).expect("few"),
        user: event.user_id.to_string(),
        version: event.user_version,
        event_id: event.event_id.to_string(),
        content: format!(
            "{} {} {:?} {:?}",
            event.event_type, event.occurred_at, event.traceparent, event.payload
        )
        .into_bytes(),
    }
}

/// Makes a poller's calls visible to the script.
pub struct Line(mpsc::UnboundedSender<Call>);

impl Line {
    /// A line, and where its calls come out.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (sender, calls) = mpsc::unbounded_channel();
        (Self(sender), calls)
    }
}

impl Publisher for Line {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        _: BatchInPass,
        _: Instant,
    ) -> BoxFuture<'a, Published> {
        let (answer, answered) = oneshot::channel();
        let call = Call::new(events, answer);
        self.0.send(call).expect("the world listens");
        async move { answered.await.expect("a call is answered or dropped") }.boxed()
    }
}

/// A call to [`Publisher::publish`] that has not returned yet.
pub struct Call {
    lanes: [Lane; PARTITIONS],
    answer: oneshot::Sender<Published>,
}

#[derive(Default)]
struct Lane {
    waiting: Vec<PendingEvent>,
    blocked: HashSet<UserId>,
    failed: bool,
    published: Published,
}

impl Lane {
    /// The lane without what must not be sent, if there is more to send.
    fn ready(&mut self) -> Option<&mut Self> {
        let blocked = &self.blocked;
        self.waiting
            .retain(|event| !blocked.contains(&event.user_id));
        (!self.failed && !self.waiting.is_empty()).then_some(self)
    }
}

impl Call {
    fn new(events: &[PendingEvent], answer: oneshot::Sender<Published>) -> Self {
        let mut lanes: [Lane; PARTITIONS] = Default::default();
        for event in events {
            lanes[partition_of(event)].waiting.push(event.clone());
        }
        Self { lanes, answer }
    }

    /// Sends the next records of one of the partitions that have any. Says whether there
    /// were any.
    pub fn send(&mut self, broker: &Broker, which: usize, records: usize, fate: Fate) -> bool {
        let mut ready: Vec<&mut Lane> = self.lanes.iter_mut().filter_map(Lane::ready).collect();
        let Some(which) = which.checked_rem(ready.len()) else {
            return false;
        };
        let lane = &mut *ready[which];
        let count = if fate == Fate::Refused { 1 } else { records };
        let events: Vec<_> = lane
            .waiting
            .drain(..count.min(lane.waiting.len()))
            .collect();
        broker.send(&events, fate);
        match fate {
            Fate::Acknowledged | Fate::StoredTwice => {
                lane.published
                    .acknowledged
                    .extend(events.iter().map(|event| event.id));
            }
            Fate::Refused => {
                lane.blocked.insert(events[0].user_id);
                lane.published
                    .refused
                    .push((events[0].id, "too large".to_owned()));
            }
            Fate::ReplyLost | Fate::NeverArrives | Fate::ArrivesLater => {
                lane.failed = true;
                lane.published.fault = Some(PublishError::Timeout(Duration::from_secs(5)));
            }
        }
        true
    }

    /// Sends all that is left, and it is acknowledged.
    pub fn send_all(&mut self, broker: &Broker) {
        while self.send(broker, 0, 1, Fate::Acknowledged) {}
    }

    /// The call returns.
    pub fn answer(self) {
        let mut published = Published::default();
        for lane in self.lanes {
            published.merge(lane.published);
        }
        self.answer.send(published).ok(); // the poller may be dead
    }
}
