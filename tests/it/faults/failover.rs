//! A primary that goes away, and a standby that takes its place. The standby is a
//! synchronous one: with any other, what was acknowledged a moment before may be lost, and
//! no service can help it.

use super::{customers::Customers, fleet::Fleet, guarantee};
use crate::harness::{Kafka, PostgresServer, Random, TestDatabase};

/// Two replicas at work while `fault` befalls the primary.
async fn fail_over(fault: impl AsyncFnOnce(&mut PostgresServer)) {
    let Some(mut primary) = PostgresServer::start().await else {
        return;
    };
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let standby = primary.standby().await;
    let database = TestDatabase::create_at(&primary.url(), "").await;
    let url = database.url().replace(
        &primary.addr(),
        &format!("{},{}", primary.addr(), standby.addr()),
    ) + "target_session_attrs=read-write";
    let mut random = Random::new();
    let fleet = Fleet::start_at(&url, Some(&kafka), 2, u32::MAX).await;
    let customers = Customers::start(4, &fleet.balancer, &mut random);
    fleet.balancer.progress(60).await;

    fault(&mut primary).await;
    standby.promote().await;
    fleet.balancer.progress(60).await;
    let mut accounts = customers.stop().await;
    guarantee::assert_kept(&mut accounts, &fleet.balancer).await;
    let database = database.moved_to(&standby.url());
    let duplicates = guarantee::assert_published(&database, &kafka, &accounts).await;
    let (answered, failed) = fleet.balancer.counts();
    eprintln!(
        "{} accounts, {answered} calls answered, {failed} failed, {duplicates} duplicates",
        accounts.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_primary_that_died() {
    fail_over(async |primary| primary.kill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_primary_that_hangs() {
    fail_over(async |primary| primary.freeze()).await;
}
