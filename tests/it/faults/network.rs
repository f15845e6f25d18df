//! A network between the service and Postgres that breaks and recovers at any point of a
//! transaction.

use super::{clients::Clients, fleet::Fleet, guarantee, postgres_and_kafka, rounds};
use crate::harness::{Proxy, Random};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_calls_survive_a_network_that_breaks_and_heals() {
    let Some((database, kafka)) = postgres_and_kafka().await else {
        return;
    };
    let proxy = Proxy::start(&database).await;
    let mut random = Random::new();
    let fleet = Fleet::start_at(&proxy.url, Some(&kafka), 2, u32::MAX).await;
    let clients = Clients::start(6, &fleet.balancer, &mut random);
    for round in 0..rounds(20) {
        fleet.balancer.progress(1 + random.bits() % 12).await;
        if round % 7 == 6 {
            proxy.freeze();
        } else {
            proxy.cut();
        }
        fleet.balancer.failures(1).await;
        proxy.heal();
    }
    guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
}
