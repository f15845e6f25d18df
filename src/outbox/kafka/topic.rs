//! A connection to every partition of the topic, opened together and given up together.
//!
//! Two habits of rskafka 0.6 shape this. It creates a topic that it names, so we look for
//! ours in a list of all topics first. And it keeps metadata that may have become stale,
//! with which it looks for a partition's leader in vain: so the partitions are opened
//! right after that list, and [`KafkaPublisher`](super::KafkaPublisher) drops all of it
//! on any fault. Its retries, which never end by default, are switched off.

use std::{num::NonZeroUsize, time::Duration};

use futures::future::{join_all, try_join_all};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
};
use tokio::time::{Instant, timeout};

use super::{
    CONNECT_TIMEOUT, KafkaSettings, PRODUCE_TIMEOUT,
    lane::{Chunk, Lane},
    record::record,
};
use crate::{
    db::outbox::PendingEvent,
    outbox::{
        partition::partition,
        publisher::{PublishError, Published},
    },
};

/// rskafka's write buffer takes 8 KiB and its sockets wait for acknowledgements (Nagle's
/// algorithm): a larger frame leaves in two parts, the second some 40 ms later.
const FRAME_SIZE: usize = 7_900;

/// At most what surrounds the records in a frame, except for the topic's name: 26 bytes of
/// request header and client id, 87 of request and batch.
const FRAME_OVERHEAD: usize = 128;

/// The topic, open for writing.
pub(super) struct Topic {
    partitions: Vec<PartitionClient>,
    count: NonZeroUsize,
    chunk_size: usize,
    opened: Instant,
}

impl Topic {
    /// Connects to the leader of every partition.
    pub(super) async fn open(settings: &KafkaSettings) -> Result<Self, PublishError> {
        timeout(CONNECT_TIMEOUT, open(settings))
            .await
            .map_err(|_| PublishError::Timeout(CONNECT_TIMEOUT))?
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Publishes what can be published before `until`.
    pub(super) async fn publish(&self, events: &[PendingEvent], until: Instant) -> Published {
        let mut by_partition = vec![Vec::new(); self.count.get()];
        for event in events {
            let key = event.user_id.to_string();
            by_partition[partition(key.as_bytes(), self.count)].push(event);
        }
        let lanes = self
            .partitions
            .iter()
            .zip(by_partition)
            .map(|(client, events)| {
                publish_lane(client, Lane::new(&events, self.chunk_size), until)
            });
        let mut published = Published::default();
        for lane in join_all(lanes).await {
            published.merge(lane);
        }
        published
    }
}

async fn open(settings: &KafkaSettings) -> Result<Topic, PublishError> {
    let name = &settings.topic;
    let client = connect(settings).await.map_err(PublishError::Connect)?;
    let topics = client.list_topics().await.map_err(PublishError::Connect)?;
    let found = topics.into_iter().find(|topic| topic.name == *name);
    let missing = || PublishError::TopicMissing(name.clone());
    let ids = found.ok_or_else(missing)?.partitions;
    let count = NonZeroUsize::new(ids.len()).ok_or_else(missing)?;
    let opening = ids
        .into_iter()
        .map(|id| client.partition_client(name, id, UnknownTopicHandling::Error));
    let partitions = try_join_all(opening).await.map_err(PublishError::Connect)?;
    Ok(Topic {
        partitions,
        count,
        chunk_size: FRAME_SIZE.saturating_sub(FRAME_OVERHEAD + name.len()),
        opened: Instant::now(),
    })
}

async fn connect(settings: &KafkaSettings) -> Result<Client, Error> {
    let mut builder = ClientBuilder::new(settings.brokers.clone())
        .client_id("auth-service")
        .backoff_config(BackoffConfig {
            deadline: Some(Duration::ZERO),
            ..BackoffConfig::default()
        });
    if let Some(tls) = settings.security.tls() {
        builder = builder.tls_config(tls.clone());
    }
    if let Some(sasl) = settings.security.sasl() {
        builder = builder.sasl_config(sasl.config());
    }
    builder.build().await
}

async fn publish_lane(client: &PartitionClient, mut lane: Lane<'_>, until: Instant) -> Published {
    while let Some(chunk) = lane.next() {
        if Instant::now() + PRODUCE_TIMEOUT >= until {
            break;
        }
        match produce(client, &chunk).await {
            Ok(Outcome::Acknowledged) => lane.acknowledge(&chunk),
            Ok(Outcome::Refused(reason)) => lane.refuse(&chunk, reason.to_string()),
            Err(fault) => {
                lane.published.fault = Some(fault);
                break;
            }
        }
    }
    lane.published
}

enum Outcome {
    Acknowledged,
    Refused(ProtocolError),
}

async fn produce(client: &PartitionClient, chunk: &Chunk<'_>) -> Result<Outcome, PublishError> {
    let records = chunk.iter().map(|event| record(event)).collect();
    let call = client.produce(records, Compression::NoCompression);
    match timeout(PRODUCE_TIMEOUT, call).await {
        Ok(Ok(_offsets)) => Ok(Outcome::Acknowledged),
        Ok(Err(Error::ServerError { protocol_error, .. }))
            if is_the_records_own(protocol_error) =>
        {
            Ok(Outcome::Refused(protocol_error))
        }
        Ok(Err(error)) => Err(PublishError::Produce(error)),
        Err(_elapsed) => Err(PublishError::Timeout(PRODUCE_TIMEOUT)),
    }
}

/// Whether the broker looked at the records and would refuse one of them again: the errors
/// of its validation that Kafka's protocol calls not retriable. (`CorruptMessage` is: it
/// tells of a damaged transfer.)
fn is_the_records_own(error: ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::MessageTooLarge
            | ProtocolError::RecordListTooLarge
            | ProtocolError::InvalidRecord
            | ProtocolError::InvalidTimestamp
    )
}
