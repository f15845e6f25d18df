//! A topic of the real Kafka, and what the mailer's group has committed in it.

use std::{env, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    producer::{FutureProducer, FutureRecord},
};

use crate::{eventually, unique};

const PARTITIONS: i32 = 3;
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Topic {
    pub name: String,
    pub group: String,
    /// In the mailer's group, but without a subscription: it only asks.
    observer: BaseConsumer,
}

pub fn brokers() -> String {
    env::var("TEST_KAFKA_BROKERS").unwrap()
}

fn client() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers());
    client
}

pub async fn make(topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let made = admin.create_topics(&[topic], &AdminOptions::new()).await;
    assert!(made.unwrap()[0].is_ok());
}

/// Publishes records, one after the other.
pub async fn publish(topic: &str, values: &[Vec<u8>]) {
    let producer: FutureProducer = client().create().unwrap();
    for value in values {
        let record = FutureRecord::to(topic).key("key").payload(value);
        producer.send(record, TIMEOUT).await.unwrap();
    }
}

impl Topic {
    pub async fn create() -> Self {
        let name = unique("events");
        make(&name).await;
        let group = unique("mailer");
        let mut config = client();
        config
            .set("group.id", &group)
            .set("enable.auto.commit", "false");
        let topic = Self {
            name,
            group,
            observer: config.create().unwrap(),
        };
        // The brokers learn of a topic after the controller has answered.
        eventually(async || topic.ends()).await;
        topic
    }

    /// The number of records in each partition. `None` if Kafka does not answer for one.
    fn ends(&self) -> Option<Vec<i64>> {
        let end = |partition| {
            let marks = self
                .observer
                .fetch_watermarks(&self.name, partition, TIMEOUT);
            marks.ok().map(|(_, end)| end)
        };
        (0..PARTITIONS).map(end).collect()
    }

    /// The mailer's progress in each partition. `None` if Kafka does not answer.
    fn committed(&self) -> Option<Vec<(Offset, String)>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, PARTITIONS - 1);
        let list = self.observer.committed_offsets(list, TIMEOUT).ok()?;
        let elements = list.elements();
        let position = elements
            .iter()
            .map(|it| (it.offset(), it.metadata().to_owned()));
        Some(position.collect())
    }

    /// Waits until the service has published so many events.
    pub async fn has(&self, events: i64) {
        eventually(async || (self.ends()?.iter().sum::<i64>() >= events).then_some(())).await;
    }

    /// Waits until so many events were published and the mailer is done with all of them.
    pub async fn is_done(&self, events: i64) {
        let is_done = || {
            let (ends, committed) = (self.ends()?, self.committed()?);
            let has_all = ends.iter().sum::<i64>() >= events;
            let mut both = ends.into_iter().zip(&committed);
            let is_done = both.all(|(end, (offset, metadata))| {
                end == 0 || (*offset == Offset::Offset(end) && metadata.is_empty())
            });
            (has_all && is_done).then_some(())
        };
        eventually(async || is_done()).await;
    }

    /// Waits until a partition has done records behind one that is not done.
    pub async fn has_gap(&self) {
        let has_gap = || {
            let committed = self.committed()?;
            let mut gaps = committed
                .iter()
                .filter(|(_, metadata)| metadata.contains(','));
            gaps.next().map(drop)
        };
        eventually(async || has_gap()).await;
    }

    /// Commits progress for the mailer's group, which must have no member.
    pub fn commit(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, PARTITIONS - 1);
        list.set_all_offsets(Offset::Offset(offset)).unwrap();
        self.observer.commit(&list, CommitMode::Sync).unwrap();
    }

    /// Publishes a byte-identical copy of each record, behind the others.
    pub async fn repeat_all(&self) {
        let mut list = TopicPartitionList::new();
        let ends = eventually(async || self.ends()).await;
        list.add_partition_range(&self.name, 0, PARTITIONS - 1);
        list.set_all_offsets(Offset::Beginning).unwrap();
        let reader: BaseConsumer = client().set("group.id", unique("reader")).create().unwrap();
        reader.assign(&list).unwrap();
        let producer: FutureProducer = client().create().unwrap();
        for _ in 0..ends.iter().sum() {
            let record = reader
                .poll(TIMEOUT)
                .expect("the records are there")
                .unwrap();
            let copy = FutureRecord::to(&self.name)
                .partition(record.partition())
                .key(record.key().unwrap())
                .payload(record.payload().unwrap());
            producer.send(copy, TIMEOUT).await.unwrap();
        }
    }

    pub async fn publish(&self, values: &[Vec<u8>]) {
        publish(&self.name, values).await;
    }
}
