//! Replicas are killed (kill -9) or stopped (SIGSTOP) again and again while clients work.

use super::{clients::Clients, fleet::Fleet, guarantee, postgres_and_kafka, rounds};
use crate::harness::{Backend, Kafka, Random, TestDatabase, both};

both! {
    async fn acknowledged_calls_survive_replicas_that_are_killed(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else { return };
        // On SQLite this also kills in the middle of writes to the file.
        let size = match database.backend() {
            Backend::Sqlite => 1,
            Backend::Postgres => 3,
        };
        let mut random = Random::new();
        let mut fleet = Fleet::start(&database, Some(&kafka), size).await;
        let clients = Clients::start(6, &fleet.balancer, &mut random);
        let mut kills = 0;
        while kills < rounds(30) {
            fleet.balancer.progress(1 + random.bits() % 12).await;
            let early = random.below(4) == 0;
            fleet.kill(random.below(size), early).await;
            kills += 1 + u32::from(early);
            // A dead replica holds the lease for 15 s. Without that wait the others publish more
            // between the kills, sometimes two at once.
            database.end_lease().await;
        }
        eprintln!("{kills} kills");
        guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_calls_survive_replicas_that_are_stopped() {
    let Some((database, kafka)) = postgres_and_kafka().await else {
        return;
    };
    let mut random = Random::new();
    let fleet = Fleet::start(&database, Some(&kafka), 3).await;
    let clients = Clients::start(6, &fleet.balancer, &mut random);
    for _ in 0..rounds(4) {
        fleet.balancer.progress(1 + random.bits() % 20).await;
        let replica = fleet.replica(random.below(3));
        replica.signal("STOP");
        // Some clients wait for this replica until their time-out, then ask another one.
        fleet.balancer.progress(12).await;
        database.end_lease().await;
        replica.signal("CONT");
    }
    guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
}
