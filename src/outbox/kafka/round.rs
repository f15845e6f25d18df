//! A round: one attempt to connect to each of some partitions and to send their events.

use prometheus_client::metrics::histogram::Histogram;
use rskafka::client::{Client, partition::PartitionClient};
use tokio::time::Instant;

use super::{
    PRODUCE_TIMEOUT, connect::open_partition, partition_queue::PartitionQueue, produce::send_all,
};
use crate::outbox::publisher::{PublishError, Published};

/// What the partitions of a round have in common.
pub(super) struct Round<'t> {
    pub(super) client: &'t Client,
    pub(super) topic: &'t str,
    /// Whether there may be a connection for each partition of the round.
    pub(super) keeps_connections: bool,
    pub(super) lease_end: Instant,
    pub(super) durations: &'t Histogram,
}

impl Round<'_> {
    /// Sends the events of a partition, by its open connection or by a new one.
    pub(super) async fn serve<'a>(
        &self,
        index: usize,
        id: i32,
        open: Option<PartitionClient>,
        queue: PartitionQueue<'a>,
    ) -> (usize, Served<'a>) {
        if Instant::now() + PRODUCE_TIMEOUT >= self.lease_end {
            return (index, Served::NoTime);
        }
        let open = match open {
            Some(open) => Ok(open),
            None => open_partition(self.client, self.topic, id).await,
        };
        let served = match open {
            Ok(open) => {
                let published = send_all(queue, &open, self.lease_end, self.durations).await;
                Served::Done(published, self.keeps_connections.then_some(open))
            }
            Err(fault) => Served::NotConnected(fault, queue),
        };
        (index, served)
    }
}

/// The result for one partition.
pub(super) enum Served<'a> {
    Done(Published, Option<PartitionClient>),
    /// The lease ends too soon.
    NoTime,
    NotConnected(PublishError, PartitionQueue<'a>),
}
