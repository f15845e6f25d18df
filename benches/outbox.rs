//! The outbox: the time from a commit to a Kafka consumer, and the rate of a backlog.

pub mod backlog;
mod latency;

use std::{env, sync::Arc};

use auth_service::outbox::kafka;
use rskafka::client::{
    Client, ClientBuilder,
    partition::{OffsetAt, PartitionClient, UnknownTopicHandling},
};

use crate::{Result, table::Table};

const PARTITIONS: i32 = 12;

pub async fn measure(table: &mut Table) -> Result<()> {
    latency::measure(table).await?;
    backlog::measure(table).await
}

/// A new topic, and a connection to each of its partitions.
pub struct Topic {
    pub config: kafka::Settings,
    partitions: Vec<Arc<PartitionClient>>,
}

impl Topic {
    pub async fn create() -> Result<Self> {
        let brokers = vec![env::var("TEST_KAFKA_BROKERS")?];
        let topic = format!("bench.{}", uuid::Uuid::now_v7().simple());
        let client = ClientBuilder::new(brokers.clone()).build().await?;
        let controller = client.controller_client()?;
        controller
            .create_topic(&topic, PARTITIONS, 1, 10_000)
            .await?;
        let mut partitions = Vec::new();
        for id in 0..PARTITIONS {
            let partition = open(&client, &topic, id).await?;
            // Waits until the partition has a leader.
            partition.get_offset(OffsetAt::Latest).await?;
            partitions.push(Arc::new(partition));
        }
        let config = kafka::Settings {
            brokers,
            topic,
            tls: None,
            sasl: None,
        };
        Ok(Self { config, partitions })
    }

    /// The number of all records.
    pub async fn records(&self) -> Result<usize> {
        let mut records = 0;
        for partition in &self.partitions {
            records += partition.get_offset(OffsetAt::Latest).await?;
        }
        Ok(records.try_into()?)
    }
}

async fn open(client: &Client, topic: &str, id: i32) -> Result<PartitionClient> {
    let retry = UnknownTopicHandling::Retry;
    Ok(client.partition_client(topic, id, retry).await?)
}
