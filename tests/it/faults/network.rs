//! A network between the service and Postgres that breaks and heals, wherever a transaction
//! happens to be.

use super::{customers::Customers, fleet::Fleet, guarantee, rounds};
use crate::harness::{Backend, Kafka, Proxy, Random, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_network_that_breaks_and_heals() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let proxy = Proxy::start(&database).await;
    let mut random = Random::new();
    let fleet = Fleet::start_at(&proxy.url, Some(&kafka), 2, u32::MAX).await;
    let customers = Customers::start(6, &fleet.balancer, &mut random);
    for round in 0..rounds(20) {
        fleet.balancer.progress(1 + random.bits() % 12).await;
        if round % 7 == 6 {
            proxy.freeze();
        } else {
            proxy.cut();
        }
        fleet.balancer.trouble(1).await;
        proxy.heal();
    }
    let mut accounts = customers.stop().await;
    guarantee::assert_kept(&mut accounts, &fleet.balancer).await;
    let duplicates = guarantee::assert_published(&database, &kafka, &accounts).await;
    let (answered, failed) = fleet.balancer.counts();
    eprintln!(
        "{} accounts, {answered} calls answered, {failed} failed, {duplicates} duplicates",
        accounts.len()
    );
}
