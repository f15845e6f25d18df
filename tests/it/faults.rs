//! The promises of the service, while its database, Kafka, network, disk or processes fail.
//!
//! Each test breaks something while clients work ([`clients`]), then checks the same promises
//! ([`guarantee`]). The longer forms run when `TEST_SOAK` is set.

mod chaos;
mod clients;
mod cluster;
mod conflicts;
mod crash_points;
mod database;
mod disk;
mod edge;
mod failover;
mod fleet;
mod guarantee;
mod lost_replies;
mod mails;
mod network;
mod outage;
mod paused;
mod pgbouncer;
mod replica;
mod rolling;
mod sqlite;
mod upgrade;

use crate::harness::{Backend, Kafka, TestDatabase, soak};

/// The number of repetitions: ten times more when `TEST_SOAK` is set.
fn rounds(short: u32) -> u32 {
    soak(short, 10 * short)
}

/// A database on Postgres and a topic. `None` without one of them; then the test was skipped.
async fn postgres_and_kafka() -> Option<(TestDatabase, Kafka)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    Some((database, Kafka::new().await?))
}
