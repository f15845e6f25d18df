//! The shared Kafka of the test run. Each test has its own topic.

use std::{collections::BTreeMap, env, time::Duration};

use rskafka::client::{Client, ClientBuilder, partition::UnknownTopicHandling};
use tokio::time::{sleep, timeout};

use super::skip;

/// A topic on the broker of `TEST_KAFKA_BROKERS`.
pub struct Kafka {
    /// For `KAFKA_BROKERS`.
    pub brokers: String,
    /// For `KAFKA_TOPIC`.
    pub topic: String,
    client: Client,
    partitions: i32,
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    /// Microseconds since 1970.
    pub timestamp: i64,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Kafka {
    /// A topic that does not exist yet. `None` if there is no broker; then the test was skipped.
    pub async fn without_topic() -> Option<Self> {
        let Ok(brokers) = env::var("TEST_KAFKA_BROKERS") else {
            skip("no Kafka: TEST_KAFKA_BROKERS is not set");
            return None;
        };
        let topic = format!("test.{}", uuid::Uuid::now_v7().simple());
        Some(Self::at(&brokers, &topic).await)
    }

    /// A topic on other brokers, which need not exist.
    pub async fn at(brokers: &str, topic: &str) -> Self {
        let bootstrap = brokers.split(',').map(str::to_owned).collect();
        let client = timeout(
            Duration::from_secs(30),
            ClientBuilder::new(bootstrap).build(),
        )
        .await
        .expect("Kafka answers")
        .expect("Kafka lets us in");
        Self {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            client,
            partitions: 12,
        }
    }

    /// A new topic with twelve partitions.
    pub async fn new() -> Option<Self> {
        let kafka = Self::without_topic().await?;
        kafka.create_topic().await;
        Some(kafka)
    }

    /// The variables of a service that publishes here.
    pub fn variables(&self) -> [(&str, &str); 2] {
        [
            ("KAFKA_BROKERS", &self.brokers),
            ("KAFKA_TOPIC", &self.topic),
        ]
    }

    /// With one replica.
    pub async fn create_topic(&self) {
        self.create_topic_with(1).await;
    }

    pub async fn create_topic_with(&self, replicas: i16) {
        let controller = self.client.controller_client().expect("a controller");
        controller
            .create_topic(&self.topic, self.partitions, replicas, 10_000)
            .await
            .expect("the topic is made");
        while !self.topic_exists().await {
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn topic_exists(&self) -> bool {
        let topics = self.client.list_topics().await.expect("Kafka answers");
        topics.iter().any(|topic| topic.name == self.topic)
    }

    /// All records that are on the topic now.
    pub async fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for partition in 0..self.partitions {
            records.extend(self.records_of(partition).await);
        }
        records
    }

    /// Waits, for at most a minute, until at least `count` records are there.
    pub async fn wait_for(&self, count: usize) -> Vec<Record> {
        let waiting = async {
            loop {
                let records = self.records().await;
                if records.len() >= count {
                    return records;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_mins(1), waiting)
            .await
            .expect("the records arrive")
    }

    async fn records_of(&self, partition: i32) -> Vec<Record> {
        let client = self
            .client
            .partition_client(&self.topic, partition, UnknownTopicHandling::Retry)
            .await
            .expect("the partition exists");
        let mut records = Vec::new();
        let mut offset = 0;
        loop {
            let (fetched, high_watermark) = client
                .fetch_records(offset, 0..1_000_000, 10)
                .await
                .expect("Kafka answers");
            for found in fetched {
                offset = found.offset + 1;
                records.push(Record {
                    partition,
                    offset: found.offset,
                    key: text(found.record.key.expect("a key")),
                    timestamp: found.record.timestamp.timestamp_micros(),
                    value: found.record.value.expect("a value"),
                    headers: found
                        .record
                        .headers
                        .into_iter()
                        .map(|(name, value)| (name, text(value)))
                        .collect(),
                });
            }
            if offset >= high_watermark {
                return records;
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}
