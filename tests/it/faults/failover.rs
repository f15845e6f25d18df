//! A primary fails and a synchronous standby takes its place. With an asynchronous standby the
//! last acknowledged commits may be lost, and no service can prevent that.

use super::{clients::Clients, fleet::Fleet, guarantee};
use crate::harness::{Kafka, PostgresServer, Random, TestDatabase};

/// Two replicas of the service work while `fault` happens to the primary.
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
    let clients = Clients::start(4, &fleet.balancer, &mut random);
    fleet.balancer.progress(60).await;

    fault(&mut primary).await;
    standby.promote().await;
    fleet.balancer.progress(60).await;
    let database = database.moved_to(&standby.url());
    guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_primary_that_died() {
    fail_over(async |primary| primary.kill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_primary_that_hangs() {
    fail_over(async |primary| primary.freeze()).await;
}
