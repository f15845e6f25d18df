//! Replicas that are restarted one after the other, behind clients that try a second time
//! and then give up.

use super::{customers::Customers, fleet::Fleet, guarantee, rounds};
use crate::harness::{Backend, Kafka, Random, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_a_client_that_retries_once() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let mut random = Random::new();
    let mut fleet = Fleet::start_at(&database.url(), Some(&kafka), 3, 2).await;
    let customers = Customers::start(6, &fleet.balancer, &mut random);
    for _ in 0..rounds(2) {
        for index in 0..3 {
            fleet.balancer.progress(20).await;
            fleet.restart(index).await;
        }
    }
    fleet.balancer.progress(20).await;
    // They would have panicked.
    let mut accounts = customers.stop().await;
    assert!(accounts.iter().all(|account| !account.registered_twice));
    guarantee::assert_kept(&mut accounts, &fleet.balancer).await;
    let duplicates = guarantee::assert_published(&database, &kafka, &accounts).await;
    let (answered, failed) = fleet.balancer.counts();
    eprintln!(
        "{} accounts, {answered} calls answered, {failed} tried again, {duplicates} duplicates",
        accounts.len()
    );
}
