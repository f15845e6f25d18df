//! The topic: connections to the leaders of its partitions.
//!
//! rskafka needs a connection for each partition, and a broker may limit those of one address
//! (`max.connections.per.ip`). The number of connections is therefore bounded: at first by
//! [`MAX_CONNECTIONS`], and after a refused one by what the brokers gave. If there are more
//! partitions than that, they are served in turn, and each connection is closed for the next.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use futures::{StreamExt as _, stream};
use prometheus_client::metrics::histogram::Histogram;
use rskafka::client::{Client, partition::PartitionClient};
use tokio::time::{Instant, sleep};

use super::{
    Settings,
    connect::find,
    partition_queue::{Pace, PartitionQueue},
    round::{Round, Served},
};
use crate::{
    model::PendingEvent,
    outbox::{
        partition::partition,
        publisher::{PublishError, Published},
    },
};

/// rskafka's write buffer takes 8 KiB and its sockets wait for acknowledgements (Nagle's
/// algorithm): a larger request leaves in two parts, the second some 40 ms later.
const MAX_REQUEST_SIZE: usize = 7_900;

/// The maximum size of a request without its records and the topic's name: 26 bytes of request
/// header and client id, 87 of request and record batch.
const REQUEST_OVERHEAD: usize = 128;

/// Enough for the usual topics of 12 partitions, and few for a broker.
const MAX_CONNECTIONS: usize = 16;

/// A broker counts a closed connection for a moment longer.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Topic {
    client: Client,
    name: String,
    ids: Vec<i32>,
    count: NonZeroUsize,
    /// Open connections, by the index of the partition.
    open: BTreeMap<usize, PartitionClient>,
    /// Partitions that are not used until the pass ends.
    faults: BTreeMap<usize, PublishError>,
    /// Connections at a time.
    width: usize,
    /// The partition that is served first: each batch another one, so that no partition has to
    /// wait whenever the time of the lease ends.
    first: usize,
    max_records_size: usize,
    pub(super) opened: Instant,
    pace: Pace,
    /// Whether a partition was closed because of a fault.
    pub(super) had_fault: bool,
}

/// The events of a partition, by its index.
type Waiting<'a> = Vec<(usize, PartitionQueue<'a>)>;

impl Topic {
    pub(super) async fn open(settings: &Settings) -> Result<Self, PublishError> {
        let name = &settings.topic;
        let (client, ids) = find(settings).await?;
        let count =
            NonZeroUsize::new(ids.len()).ok_or_else(|| PublishError::TopicMissing(name.clone()))?;
        let random = getrandom::u32().unwrap_or_default();
        Ok(Self {
            client,
            name: name.clone(),
            ids: ids.into_iter().collect(),
            count,
            open: BTreeMap::new(),
            faults: BTreeMap::new(),
            width: MAX_CONNECTIONS,
            first: usize::try_from(random).unwrap_or_default() % count,
            max_records_size: MAX_REQUEST_SIZE.saturating_sub(REQUEST_OVERHEAD + name.len()),
            opened: Instant::now(),
            pace: Pace::SlowStart,
            had_fault: false,
        })
    }

    /// The number of partitions. An error if one of them cannot be reached.
    pub(super) async fn count_reachable(mut self) -> Result<usize, PublishError> {
        let queues = self.partition_queues(&[]);
        let far = Instant::now() + Duration::from_hours(1);
        let published = self
            .serve(queues, far, &Histogram::new(std::iter::empty()))
            .await;
        match published.fault {
            Some(fault) => Err(fault),
            None => Ok(self.count.get()),
        }
    }

    pub(super) async fn publish(
        &mut self,
        events: &[PendingEvent],
        lease_end: Instant,
        durations: &Histogram,
    ) -> Published {
        let mut queues = self.partition_queues(events);
        queues.retain(|(_, queue)| !queue.is_empty());
        let split = queues.partition_point(|(index, _)| *index < self.first);
        queues.rotate_left(split);
        if queues.len() > self.width {
            self.first = (self.first + self.width) % self.count;
        }
        let published = self.serve(queues, lease_end, durations).await;
        if published.fault.is_none() && !published.acknowledged.is_empty() {
            self.pace = Pace::Full;
        }
        published
    }

    /// Serves all partitions, in rounds while brokers refuse connections beyond a limit.
    async fn serve(
        &mut self,
        mut waiting: Waiting<'_>,
        lease_end: Instant,
        durations: &Histogram,
    ) -> Published {
        let mut published = Published::default();
        waiting.retain(|(index, _)| match self.faults.get(index) {
            Some(fault) => {
                published.fault.get_or_insert_with(|| fault.clone());
                false
            }
            None => true,
        });
        while !waiting.is_empty() {
            waiting = self
                .serve_round(waiting, &mut published, lease_end, durations)
                .await;
            if !waiting.is_empty() {
                self.open.clear();
                sleep(PAUSE).await;
            }
        }
        published
    }

    /// Serves as many partitions at a time as there may be connections. Returns those for which
    /// there was none, if others had one: the brokers then limit the number.
    async fn serve_round<'a>(
        &mut self,
        waiting: Waiting<'a>,
        published: &mut Published,
        lease_end: Instant,
        durations: &Histogram,
    ) -> Waiting<'a> {
        let fits = waiting.len() <= self.width;
        let missing = waiting
            .iter()
            .filter(|(index, _)| !self.open.contains_key(index));
        if self.open.len() + missing.count() > self.width {
            let needed = |index: &usize| fits && waiting.iter().any(|(other, _)| other == index);
            self.open.retain(|index, _| needed(index));
        }
        let round = Round {
            client: &self.client,
            topic: &self.name,
            keeps_connections: fits,
            lease_end,
            durations,
        };
        let serving: Vec<_> = waiting
            .into_iter()
            .map(|(index, queue)| {
                round.serve(index, self.ids[index], self.open.remove(&index), queue)
            })
            .collect();
        let served: Vec<_> = stream::iter(serving)
            .buffer_unordered(self.width)
            .collect()
            .await;
        self.settle(served, published)
    }

    fn settle<'a>(
        &mut self,
        served: Vec<(usize, Served<'a>)>,
        published: &mut Published,
    ) -> Waiting<'a> {
        let is_done = |served: &Served<'_>| matches!(served, Served::Done(..));
        let connected = served.iter().filter(|(_, served)| is_done(served)).count();
        let mut waiting = Vec::new();
        for (index, served) in served {
            match served {
                Served::Done(outcome, open) => match &outcome.fault {
                    Some(fault) => {
                        self.close(index, fault.clone());
                        published.merge(outcome);
                    }
                    None => {
                        self.open.extend(open.map(|open| (index, open)));
                        published.merge(outcome);
                    }
                },
                Served::NoTime => {}
                Served::NotConnected(PublishError::Connect(_), queue) if connected > 0 => {
                    waiting.push((index, queue));
                }
                Served::NotConnected(fault, _) => {
                    self.close(index, fault.clone());
                    published.fault.get_or_insert(fault);
                }
            }
        }
        if !waiting.is_empty() {
            // Fewer than before, also if the connections of this round came one after the other.
            self.width = connected.min(self.width - 1).max(1);
        }
        waiting
    }

    fn close(&mut self, index: usize, fault: PublishError) {
        self.faults.insert(index, fault);
        self.had_fault = true;
    }

    fn partition_queues<'a>(&self, events: &'a [PendingEvent]) -> Waiting<'a> {
        let mut by_partition = vec![Vec::new(); self.count.get()];
        for event in events {
            let key = event.user_id.to_string();
            by_partition[partition(key.as_bytes(), self.count)].push(event);
        }
        let queue = |events: Vec<_>| PartitionQueue::new(&events, self.max_records_size, self.pace);
        by_partition.into_iter().map(queue).enumerate().collect()
    }
}
