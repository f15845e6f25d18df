//! kill -9 and SIGSTOP, again and again, while clients work.

use super::{customers::Customers, fleet::Fleet, guarantee, rounds};
use crate::harness::{Backend, Kafka, Random, TestDatabase, both};

both! {
    async fn what_was_acknowledged_survives_replicas_that_are_killed(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else { return };
        // On SQLite this is also kill -9 in the middle of writes to the file.
        let size = match database.backend() {
            Backend::Sqlite => 1,
            Backend::Postgres => 3,
        };
        let mut random = Random::new();
        let mut fleet = Fleet::start(&database, Some(&kafka), size).await;
        let customers = Customers::start(6, &fleet.balancer, &mut random);
        let mut kills = 0;
        while kills < rounds(30) {
            fleet.balancer.progress(1 + random.bits() % 12).await;
            let early = random.below(4) == 0;
            fleet.kill(random.below(size), early).await;
            kills += 1 + u32::from(early);
            // A dead replica holds the lease for 15 s. Without that wait more is published
            // between the kills, sometimes by two replicas at once.
            database.end_lease().await;
        }
        let mut accounts = customers.stop().await;
        guarantee::assert_kept(&mut accounts, &fleet.balancer).await;
        let duplicates = guarantee::assert_published(&database, &kafka, &accounts).await;
        let (answered, failed) = fleet.balancer.counts();
        eprintln!(
            "{kills} kills, {} accounts, {answered} calls answered, {failed} failed, \
             {duplicates} duplicates",
            accounts.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_replicas_that_stand_still() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let mut random = Random::new();
    let fleet = Fleet::start(&database, Some(&kafka), 3).await;
    let customers = Customers::start(6, &fleet.balancer, &mut random);
    for _ in 0..rounds(4) {
        fleet.balancer.progress(1 + random.bits() % 20).await;
        let replica = fleet.replica(random.below(3));
        replica.signal("STOP");
        // Some clients wait for it in vain meanwhile, and ask another one.
        fleet.balancer.progress(12).await;
        database.end_lease().await;
        replica.signal("CONT");
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
