//! The topic: a connection to each of its partitions. They are opened and dropped together.

use std::num::NonZeroUsize;

use futures::future::join_all;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::{
    Settings,
    connect::{Partition, open_partitions},
    partition_queue::{Pace, PartitionQueue},
    produce::send_all,
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

pub(super) struct Topic {
    partitions: Vec<Partition>,
    count: NonZeroUsize,
    max_records_size: usize,
    pub(super) opened: Instant,
    pace: Pace,
    /// Whether a partition was closed because of a fault.
    pub(super) had_fault: bool,
}

impl Topic {
    pub(super) async fn open(settings: &Settings) -> Result<Self, PublishError> {
        let name = &settings.topic;
        let partitions = open_partitions(settings).await?;
        let count = NonZeroUsize::new(partitions.len())
            .ok_or_else(|| PublishError::TopicMissing(name.clone()))?;
        Ok(Self {
            partitions,
            count,
            max_records_size: MAX_REQUEST_SIZE.saturating_sub(REQUEST_OVERHEAD + name.len()),
            opened: Instant::now(),
            pace: Pace::SlowStart,
            had_fault: false,
        })
    }

    /// The number of partitions. An error if one of them is not open.
    pub(super) fn count_open(self) -> Result<usize, PublishError> {
        let open: Result<Vec<_>, _> = self.partitions.into_iter().collect();
        Ok(open?.len())
    }

    pub(super) async fn publish(
        &mut self,
        events: &[PendingEvent],
        lease_end: Instant,
        durations: &Histogram,
    ) -> Published {
        let queues = self.partition_queues(events).into_iter();
        let sending = (queues.zip(&self.partitions))
            .map(|(queue, partition)| send_all(queue, partition, lease_end, durations));
        let outcomes = join_all(sending).await;
        let mut published = Published::default();
        for (partition, outcome) in self.partitions.iter_mut().zip(outcomes) {
            if let Some(fault) = &outcome.fault {
                *partition = Err(fault.clone());
                self.had_fault = true;
            }
            published.merge(outcome);
        }
        if published.fault.is_none() && !published.acknowledged.is_empty() {
            self.pace = Pace::Full;
        }
        published
    }

    fn partition_queues<'a>(&self, events: &'a [PendingEvent]) -> Vec<PartitionQueue<'a>> {
        let mut by_partition = vec![Vec::new(); self.count.get()];
        for event in events {
            let key = event.user_id.to_string();
            by_partition[partition(key.as_bytes(), self.count)].push(event);
        }
        let queue = |events: Vec<_>| PartitionQueue::new(&events, self.max_records_size, self.pace);
        by_partition.into_iter().map(queue).collect()
    }
}
