//! PgBouncer between the service and Postgres, in session mode, and in transaction mode if it
//! knows prepared statements (1.21 or newer; Debian has 1.18).

use super::{clients::Clients, fleet::Fleet, guarantee, postgres_and_kafka};
use crate::harness::{PgBouncer, Random};

#[tokio::test(flavor = "multi_thread")]
async fn all_works_through_pgbouncer_and_survives_its_death() {
    for mode in PgBouncer::modes() {
        works_and_survives(mode).await;
    }
}

async fn works_and_survives(mode: &str) {
    let Some((database, kafka)) = postgres_and_kafka().await else {
        return;
    };
    let mut bouncer = PgBouncer::start(&database, 40, mode).await;
    let mut random = Random::new();
    let url = bouncer.url(&database);
    let fleet = Fleet::start_at(&url, Some(&kafka), 2, u32::MAX).await;
    let clients = Clients::start(4, &fleet.balancer, &mut random);
    for _ in 0..3 {
        fleet.balancer.progress(40).await;
        bouncer.kill().await;
        bouncer.start_again().await;
    }
    fleet.balancer.progress(40).await;
    guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
}
