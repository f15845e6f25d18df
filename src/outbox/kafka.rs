//! Publishes to Apache Kafka through rskafka, with `acks=all`.
//!
//! Keeps the promises of [`Publisher`], and always answers in time, however the brokers
//! behave. Its only state is a connection, which is reused while there is no fault. After a
//! fault the next pass opens a new one, because rskafka does not recover by itself from all
//! faults of a cluster.
//!
//! A record may arrive twice: when its acknowledgement was lost, and when the broker
//! throttles us. Then rskafka sends a request again that succeeded, until we give up after
//! [`PRODUCE_TIMEOUT`].

mod connect;
mod partition_queue;
mod produce;
mod record;
mod round;
mod settings;
mod topic;

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use prometheus_client::metrics::histogram::Histogram;
use tokio::{sync::Mutex, time::Instant};

pub use self::settings::{Sasl, SaslMechanism, Settings};
use self::topic::Topic;
use super::publisher::{BatchInPass, PublishError, Published, Publisher};
use crate::model::PendingEvent;

/// The time limit for a produce request. The poller's lease must last longer.
pub const PRODUCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit for connecting to a partition's leader.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Brokers and load balancers close connections that are idle for some minutes (Kafka after
/// 10, `connections.max.idle.ms`), and in a quiet hour some partition always is. We close
/// first, so that no event meets a closed connection.
const MAX_AGE: Duration = Duration::from_mins(3);

pub struct KafkaPublisher {
    settings: Settings,
    topic: Mutex<Option<Topic>>,
    durations: Histogram,
}

impl KafkaPublisher {
    /// Connects when it is first used.
    pub fn new(settings: Settings, durations: Histogram) -> Self {
        Self {
            settings,
            topic: Mutex::new(None),
            durations,
        }
    }
}

/// Checks that all partitions of the topic can be reached, and counts them.
pub async fn count_partitions(settings: &Settings) -> Result<usize, PublishError> {
    Topic::open(settings).await?.count_reachable().await
}

impl Publisher for KafkaPublisher {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        batch: BatchInPass,
        lease_end: Instant,
    ) -> BoxFuture<'a, Published> {
        async move {
            let mut kept = self.topic.lock().await;
            // Taken out, so that a cancelled call does not leave a broken connection.
            let usable = kept.take().filter(|topic| {
                topic.opened.elapsed() < MAX_AGE
                    && (batch == BatchInPass::Later || !topic.had_fault)
            });
            let topic = match usable {
                Some(topic) => Ok(topic),
                None => Topic::open(&self.settings).await,
            };
            match topic {
                Ok(mut topic) => {
                    let published = topic.publish(events, lease_end, &self.durations).await;
                    *kept = Some(topic);
                    published
                }
                Err(fault) => Published::unreachable(fault),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{partition_queue::tests::event, *};
    use crate::outbox::Metrics;

    #[tokio::test]
    async fn without_a_broker_all_events_are_still_to_be_published() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let closed = listener.local_addr().expect("bound");
        drop(listener);
        let settings = Settings {
            brokers: vec![closed.to_string()],
            topic: "events".to_owned(),
            tls: None,
            sasl: None,
        };
        let durations = Metrics::register(&mut Registry::default()).produce;
        let publisher = KafkaPublisher::new(settings, durations);
        let until = Instant::now() + 3 * PRODUCE_TIMEOUT;
        let events = [event(1, 1, 1)];
        let outcome = publisher.publish(&events, BatchInPass::First, until).await;
        assert!(outcome.acknowledged.is_empty() && outcome.refused.is_empty());
        assert!(matches!(outcome.fault, Some(PublishError::Connect(_))));
    }
}
