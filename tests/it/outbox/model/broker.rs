//! The broker of the model, and the connection of a poller to it.
//!
//! A call keeps the contract of [`Publisher::publish`] and no more: it sends in order within a
//! partition, sends the next records only after the earlier ones were acknowledged, and sends
//! none of a user after a refused one. It ignores the end of the lease.

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

/// The fate of records that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are stored, and the answer arrives.
    Acknowledged,
    /// The client sends them twice (after a throttled reply), and the answer arrives.
    StoredTwice,
    /// They are stored, and the answer is lost.
    ReplyLost,
    /// They are lost.
    NeverArrives,
    /// They are stored after the poller has given up (a frozen broker).
    ArrivesLater,
    /// The broker refuses the first one.
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

    /// Stores records of one call that are still on the way. `false` if there are none.
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

/// The publisher of a poller. The script sees its calls and answers them.
pub struct Line(mpsc::UnboundedSender<Call>);

impl Line {
    /// The second value receives the calls.
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
        self.0.send(call).expect("the script receives calls");
        async move { answered.await.expect("a call is answered or dropped") }.boxed()
    }
}

/// A call to [`Publisher::publish`] that has not returned yet.
pub struct Call {
    queues: [Queue; PARTITIONS],
    answer: oneshot::Sender<Published>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<PendingEvent>,
    blocked: HashSet<UserId>,
    failed: bool,
    published: Published,
}

impl Queue {
    /// Drops the records that must not be sent. `None` if there is nothing more to send.
    fn ready(&mut self) -> Option<&mut Self> {
        let blocked = &self.blocked;
        self.waiting
            .retain(|event| !blocked.contains(&event.user_id));
        (!self.failed && !self.waiting.is_empty()).then_some(self)
    }
}

impl Call {
    fn new(events: &[PendingEvent], answer: oneshot::Sender<Published>) -> Self {
        let mut queues: [Queue; PARTITIONS] = Default::default();
        for event in events {
            queues[partition_of(event)].waiting.push(event.clone());
        }
        Self { queues, answer }
    }

    /// Sends the next records of one of the partitions that have any. `false` if none has.
    pub fn send(&mut self, broker: &Broker, which: usize, records: usize, fate: Fate) -> bool {
        let mut ready: Vec<&mut Queue> = self.queues.iter_mut().filter_map(Queue::ready).collect();
        let Some(which) = which.checked_rem(ready.len()) else {
            return false;
        };
        let queue = &mut *ready[which];
        let count = if fate == Fate::Refused { 1 } else { records };
        let events: Vec<_> = queue
            .waiting
            .drain(..count.min(queue.waiting.len()))
            .collect();
        broker.send(&events, fate);
        match fate {
            Fate::Acknowledged | Fate::StoredTwice => {
                queue
                    .published
                    .acknowledged
                    .extend(events.iter().map(|event| event.id));
            }
            Fate::Refused => {
                queue.blocked.insert(events[0].user_id);
                queue
                    .published
                    .refused
                    .push((events[0].id, "too large".to_owned()));
            }
            Fate::ReplyLost | Fate::NeverArrives | Fate::ArrivesLater => {
                queue.failed = true;
                queue.published.fault = Some(PublishError::Timeout(Duration::from_secs(5)));
            }
        }
        true
    }

    /// Sends all that is left. The broker acknowledges it.
    pub fn send_all(&mut self, broker: &Broker) {
        while self.send(broker, 0, 1, Fate::Acknowledged) {}
    }

    /// The call returns.
    pub fn answer(self) {
        let mut published = Published::default();
        for queue in self.queues {
            published.merge(queue.published);
        }
        self.answer.send(published).ok(); // the poller may be dead
    }
}
