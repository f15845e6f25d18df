//! Replicas are restarted one after the other, while clients try each call at most twice.

use super::{clients::Clients, fleet::Fleet, guarantee, postgres_and_kafka, rounds};
use crate::harness::Random;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_a_client_that_retries_once() {
    let Some((database, kafka)) = postgres_and_kafka().await else {
        return;
    };
    let mut random = Random::new();
    let mut fleet = Fleet::start_at(&database.url(), Some(&kafka), 3, 2).await;
    let clients = Clients::start(6, &fleet.balancer, &mut random);
    for _ in 0..rounds(2) {
        for index in 0..3 {
            fleet.balancer.progress(20).await;
            fleet.restart(index).await;
        }
    }
    fleet.balancer.progress(20).await;
    // A client panics if its second try fails.
    let accounts = guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
    assert!(accounts.iter().all(|account| !account.registered_twice));
}
