//! Connects to the cluster and to the leaders of the topic's partitions.
//!
//! Two properties of rskafka 0.6 shape this. It creates a topic that it is asked for, so we
//! first look for ours in the list of all topics. It also caches metadata and may not find a
//! leader that changed since; the next pass then reads them again with a new client. Its
//! retries, which never end by default, are switched off.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::Error,
        partition::{PartitionClient, UnknownTopicHandling},
    },
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::{LEADER_TIMEOUT, Sasl, SaslMechanism, Settings};
use crate::{outbox::publisher::PublishError, tls};

/// The time limit for finding the topic. After it, the next attempt may pick another broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the cluster, and the partitions of the topic: none if there is no such topic.
pub(super) async fn find(settings: &Settings) -> Result<(Client, BTreeSet<i32>), PublishError> {
    within(CONNECT_TIMEOUT, find_topic(settings)).await
}

/// Connects to the leader of a partition. Each partition has a connection of its own.
pub(super) async fn open_partition(
    client: &Client,
    topic: &str,
    id: i32,
) -> Result<PartitionClient, PublishError> {
    let opening = client.partition_client(topic, id, UnknownTopicHandling::Error);
    within(LEADER_TIMEOUT, async {
        opening.await.map_err(cannot_connect)
    })
    .await
}

async fn find_topic(settings: &Settings) -> Result<(Client, BTreeSet<i32>), PublishError> {
    let client = connect(settings).await.map_err(cannot_connect)?;
    let topics = client.list_topics().await.map_err(cannot_connect)?;
    let mut topics = topics.into_iter();
    let found = topics.find(|topic| topic.name == settings.topic);
    Ok((
        client,
        found.map(|topic| topic.partitions).unwrap_or_default(),
    ))
}

fn cannot_connect(error: Error) -> PublishError {
    PublishError::Connect(Arc::new(error))
}

pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PublishError>>,
) -> Result<T, PublishError> {
    let result = timeout(limit, work).await;
    result.unwrap_or(Err(PublishError::Timeout(limit)))
}

async fn connect(settings: &Settings) -> Result<Client, Error> {
    let mut builder = ClientBuilder::new(settings.brokers.clone())
        .client_id("auth-service")
        .backoff_config(BackoffConfig {
            deadline: Some(Duration::ZERO),
            ..BackoffConfig::default()
        });
    if let Some(authorities) = &settings.tls {
        builder = builder.tls_config(Arc::new(tls::client(Arc::clone(authorities))));
    }
    if let Some(sasl) = &settings.sasl {
        builder = builder.sasl_config(sasl_config(sasl));
    }
    builder.build().await
}

/// The result holds the password as plain text: never print it.
fn sasl_config(sasl: &Sasl) -> SaslConfig {
    let password = sasl.password.expose_secret().to_owned();
    let credentials = Credentials::new(sasl.username.clone(), password);
    match sasl.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
    }
}
