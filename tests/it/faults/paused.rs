//! A replica that is stopped for longer than its lease, and one with a wrong clock.

use std::{sync::Arc, time::Duration};

use auth_service::outbox::Outcome;

use super::{
    crash_points::{Setup, stopped},
    fleet::Fleet,
    guarantee,
    replica::{self, Point},
};
use crate::harness::{START, TestDatabase, both, db};
use crate::outbox::{Fake, poller_at};

const HOUR: Duration = Duration::from_hours(1);

/// A replica stops at `point` until its lease has ended and another one has published everything,
/// later events of the same users included. Returns the number of duplicates.
async fn pause(database: TestDatabase, point: Point) -> Option<usize> {
    let mut setup = Setup::create(database).await?;
    let folder = tempfile::tempdir().unwrap();
    let paused = replica::start(&folder, &setup.database, &setup.kafka, point, "STOP");
    stopped(&paused).await;
    let other = Fleet::start(&setup.database, Some(&setup.kafka), 1).await;
    guarantee::drained(&setup.database).await;
    for account in &mut setup.accounts {
        account.log_out(&other.balancer).await;
        account.log_in(&other.balancer).await;
    }
    guarantee::drained(&setup.database).await;
    paused.signal("CONT");
    paused.wait_for("\"held\":false").await;
    guarantee::assert_kept(&mut setup.accounts, &other.balancer).await;
    Some(guarantee::assert_published(&setup.database, &setup.kafka, &setup.accounts).await)
}

both! {
    async fn a_replica_paused_before_a_produce_sends_nothing_when_it_wakes(database: TestDatabase) {
        if let Some(duplicates) = pause(database, Point::BeforeProduce).await {
            assert_eq!(duplicates, 0);
        }
    }

    async fn a_replica_paused_before_the_delete_causes_duplicates_only(database: TestDatabase) {
        if let Some(duplicates) = pause(database, Point::BeforeDelete).await {
            assert_eq!(duplicates, 8);
        }
    }

    async fn a_clock_that_is_an_hour_off_changes_nothing_about_the_lease(database: TestDatabase) {
        let db = db(&database, Duration::from_secs(3));
        db.migrate().await.unwrap();
        for other_time in [START + HOUR, START - HOUR] {
            let poller = |now| poller_at(db.clone(), Arc::new(Fake::default()), now);
            let [mut here, mut there] = [START, other_time].map(poller);
            assert_eq!(here.tick().await.unwrap(), Outcome::Idle);
            assert_eq!(there.tick().await.unwrap(), Outcome::Standby);
            assert_eq!(there.tick().await.unwrap(), Outcome::Standby);
            database.end_lease().await;
            assert_eq!(there.tick().await.unwrap(), Outcome::Idle);
            let mut late = poller(START);
            assert_eq!(late.tick().await.unwrap(), Outcome::Standby);
            database.end_lease().await;
        }
    }
}
