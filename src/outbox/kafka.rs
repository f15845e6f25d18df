//! Publishes to Apache Kafka through rskafka, with `acks=all`.
//!
//! Promises what [`Publisher`] asks for, and to answer: no call hangs, however the brokers
//! behave. It remembers nothing but a connection, which it keeps while all goes well. After
//! any fault the next try connects anew, because rskafka does not recover by itself from
//! everything that may happen to a cluster. Until then a partition that failed is closed: so
//! it costs a try that takes many calls its time-out once.
//!
//! A record may arrive twice: when its acknowledgement was lost, and when the broker
//! throttles us, for then rskafka sends a request again that succeeded, until we give up
//! after [`PRODUCE_TIMEOUT`]. What is tried after a fault begins with one record a
//! partition and doubles with each acknowledgement. So even a quota of one record in the
//! longest pause between two tries lets all events through in the end, and of a broker that
//! stores without acknowledging each try leaves one more copy of one record a partition.

mod lane;
mod record;
mod topic;

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use prometheus_client::metrics::histogram::Histogram;
use tokio::{sync::Mutex, time::Instant};

use self::topic::Topic;
use super::publisher::{Part, PublishError, Published, Publisher};
use crate::{config::KafkaConfig, db::outbox::PendingEvent};

/// How long one produce call may take: the poller's lease must last longer.
pub const PRODUCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to find the topic. A broker that hangs costs one try that long:
/// the next one may pick another broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to connect to a partition's leader: all at once, so also for all.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is used. Brokers and load balancers close what is idle for some
/// minutes (Kafka after 10, `connections.max.idle.ms`), and in a quiet hour some partition
/// always is: we close first, so that no event meets a dead connection.
const MAX_AGE: Duration = Duration::from_mins(3);

/// Publishes to one topic.
pub struct KafkaPublisher {
    config: KafkaConfig,
    topic: Mutex<Option<Topic>>,
    /// How long the broker takes for a produce call.
    produce: Histogram,
}

impl KafkaPublisher {
    /// A publisher that connects when it is first used.
    #[must_use]
    pub fn new(config: KafkaConfig, produce: Histogram) -> Self {
        Self {
            config,
            topic: Mutex::new(None),
            produce,
        }
    }

    async fn open(&self, kept: Option<Topic>) -> Result<Topic, PublishError> {
        match kept.filter(|topic| topic.age() < MAX_AGE) {
            Some(topic) => Ok(topic),
            None => Topic::open(&self.config).await,
        }
    }
}

/// Looks whether all partitions of the topic can be reached, and counts them.
pub async fn count_partitions(config: &KafkaConfig) -> Result<usize, PublishError> {
    Topic::open(config).await?.count_open()
}

impl Publisher for KafkaPublisher {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        part: Part,
        until: Instant,
    ) -> BoxFuture<'a, Published> {
        async move {
            let mut kept = self.topic.lock().await;
            // Taken out, so that a call that is dropped half-way leaves no connection behind.
            let usable = (kept.take()).filter(|topic| part == Part::Next || !topic.has_failed());
            let mut topic = match self.open(usable).await {
                Ok(topic) => topic,
                Err(fault) => return Published::failed(fault),
            };
            let published = topic.publish(events, until, &self.produce).await;
            let proven = published.fault.is_none() && !published.acknowledged.is_empty();
            *kept = Some(if proven { topic.proven() } else { topic });
            published
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::{lane::tests::event, *};
    use crate::telemetry::metrics::OutboxMetrics;

    #[tokio::test]
    async fn without_a_broker_every_event_is_still_to_be_published() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let closed = listener.local_addr().expect("bound");
        drop(listener);
        let publisher = KafkaPublisher::new(
            KafkaConfig {
                brokers: vec![closed.to_string()],
                topic: "events".to_owned(),
                tls: None,
                sasl: None,
            },
            OutboxMetrics::default().produce,
        );
        let until = Instant::now() + 3 * PRODUCE_TIMEOUT;
        let outcome = publisher
            .publish(&[event(1, 1, 1)], Part::First, until)
            .await;
        assert!(outcome.acknowledged.is_empty() && outcome.refused.is_empty());
        assert!(matches!(outcome.fault, Some(PublishError::Connect(_))));
    }
}
