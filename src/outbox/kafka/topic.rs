//! A connection to every partition of the topic, opened together and given up together.
//!
//! Two habits of rskafka 0.6 shape this. It creates a topic that it names, so we look for
//! ours in a list of all topics first. And it keeps metadata that may have become stale,
//! with which it looks for a partition's leader in vain: so the partitions are opened
//! right after that list, and [`KafkaPublisher`](super::KafkaPublisher) drops all of it
//! on any fault. Its retries, which never end by default, are switched off.
//!
//! A partition whose leader is gone or hangs holds up nobody but its own events.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc, time::Duration};

use futures::future::join_all;
use prometheus_client::metrics::histogram::Histogram;
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};

use super::{
    CONNECT_TIMEOUT, LEADER_TIMEOUT, PRODUCE_TIMEOUT,
    lane::{Chunk, Lane, Start},
    record::record,
};
use crate::{
    config::{KafkaConfig, Sasl, SaslMechanism},
    db::outbox::PendingEvent,
    outbox::{
        partition::partition,
        publisher::{PublishError, Published},
    },
    tls,
};

/// rskafka's write buffer takes 8 KiB and its sockets wait for acknowledgements (Nagle's
/// algorithm): a larger frame leaves in two parts, the second some 40 ms later.
const FRAME_SIZE: usize = 7_900;

/// At most what surrounds the records in a frame, except for the topic's name: 26 bytes of
/// request header and client id, 87 of request and batch.
const FRAME_OVERHEAD: usize = 128;

/// The topic, open for writing.
pub(super) struct Topic {
    partitions: Vec<Result<PartitionClient, PublishError>>,
    count: NonZeroUsize,
    chunk_size: usize,
    opened: Instant,
    start: Start,
    has_failed: bool,
}

impl Topic {
    /// Connects to the leaders of all partitions, as far as that is possible.
    pub(super) async fn open(config: &KafkaConfig) -> Result<Self, PublishError> {
        let name = &config.topic;
        let (client, ids) = within(CONNECT_TIMEOUT, find(config)).await?;
        let count =
            NonZeroUsize::new(ids.len()).ok_or_else(|| PublishError::TopicMissing(name.clone()))?;
        let opening = ids
            .into_iter()
            .map(|id| within(LEADER_TIMEOUT, open_partition(&client, name, id)));
        Ok(Self {
            partitions: join_all(opening).await,
            count,
            chunk_size: FRAME_SIZE.saturating_sub(FRAME_OVERHEAD + name.len()),
            opened: Instant::now(),
            start: Start::Slow,
            has_failed: false,
        })
    }

    /// How many partitions it has, if the leader of each is at hand.
    pub(super) fn count_open(self) -> Result<usize, PublishError> {
        let partitions = self.partitions.into_iter();
        let open: Vec<_> = partitions.collect::<Result<_, _>>()?;
        Ok(open.len())
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether there was a fault: the partitions where it was are closed since.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// It acknowledged all that it was asked to, so there is no need to be careful.
    pub(super) fn proven(self) -> Self {
        Self {
            start: Start::Fast,
            ..self
        }
    }

    /// Publishes what can be published before `until`.
    pub(super) async fn publish(
        &mut self,
        events: &[PendingEvent],
        until: Instant,
        timing: &Histogram,
    ) -> Published {
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
                let lane = Lane::new(&events, self.chunk_size, self.start);
                publish_lane(client.as_ref(), lane, until, timing)
            });
        let lanes = join_all(lanes).await;
        let mut published = Published::default();
        for (client, lane) in self.partitions.iter_mut().zip(lanes) {
            if let Some(fault) = &lane.fault {
                *client = Err(fault.clone());
                self.has_failed = true;
            }
            published.merge(lane);
        }
        published
    }
}

/// A connection to the cluster, and the topic's partitions: none, if there is no such topic.
async fn find(config: &KafkaConfig) -> Result<(Client, BTreeSet<i32>), PublishError> {
    let client = connect(config).await.map_err(cannot_connect)?;
    let topics = client.list_topics().await.map_err(cannot_connect)?;
    let found = topics.into_iter().find(|topic| topic.name == config.topic);
    let partitions = found.map(|topic| topic.partitions).unwrap_or_default();
    Ok((client, partitions))
}

async fn open_partition(
    client: &Client,
    topic: &str,
    id: i32,
) -> Result<PartitionClient, PublishError> {
    client
        .partition_client(topic, id, UnknownTopicHandling::Error)
        .await
        .map_err(cannot_connect)
}

fn cannot_connect(error: Error) -> PublishError {
    PublishError::Connect(Arc::new(error))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PublishError>>,
) -> Result<T, PublishError> {
    timeout(limit, work)
        .await
        .unwrap_or(Err(PublishError::Timeout(limit)))
}

async fn connect(config: &KafkaConfig) -> Result<Client, Error> {
    let mut builder = ClientBuilder::new(config.brokers.clone())
        .client_id("auth-service")
        .backoff_config(BackoffConfig {
            deadline: Some(Duration::ZERO),
            ..BackoffConfig::default()
        });
    if let Some(authorities) = &config.tls {
        builder = builder.tls_config(Arc::new(tls::client(Arc::clone(authorities))));
    }
    if let Some(sasl) = &config.sasl {
        builder = builder.sasl_config(sasl_config(sasl));
    }
    builder.build().await
}

/// The login for rskafka, password included: nothing may print it.
fn sasl_config(sasl: &Sasl) -> SaslConfig {
    let password = sasl.password.expose_secret().to_owned();
    let credentials = Credentials::new(sasl.username.clone(), password);
    match sasl.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
    }
}

async fn publish_lane(
    client: Result<&PartitionClient, &PublishError>,
    mut lane: Lane<'_>,
    until: Instant,
    timing: &Histogram,
) -> Published {
    while let Some(chunk) = lane.next() {
        if Instant::now() + PRODUCE_TIMEOUT >= until {
            break;
        }
        let produced = match client {
            Ok(client) => {
                let asked = Instant::now();
                let produced = within(PRODUCE_TIMEOUT, produce(client, &chunk)).await;
                timing.observe(asked.elapsed().as_secs_f64());
                produced
            }
            Err(closed) => Err(closed.clone()),
        };
        match produced {
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
    match client.produce(records, Compression::NoCompression).await {
        Ok(_offsets) => Ok(Outcome::Acknowledged),
        Err(Error::ServerError { protocol_error, .. }) if is_the_records_own(protocol_error) => {
            Ok(Outcome::Refused(protocol_error))
        }
        Err(error) => Err(PublishError::Produce(Arc::new(error))),
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
