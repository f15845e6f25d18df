//! A replica that stands still longer than its lease, and one whose clock is wrong.

use std::{sync::Arc, time::Duration};

use auth_service::outbox::Outcome;

use super::{
    crash_points::{Scene, stopped},
    fleet::Fleet,
    guarantee,
    replica::{self, Point},
};
use crate::harness::{START, TestDatabase, both, db};
use crate::outbox::{Fake, poller_at};

const HOUR: Duration = Duration::from_hours(1);

/// A replica stops at `point` until its lease has ended, another has published everything,
/// and later events of the same users too. Returns how many records were duplicates.
async fn pause(database: TestDatabase, point: Point) -> Option<usize> {
    let mut scene = Scene::set(database).await?;
    let folder = tempfile::tempdir().unwrap();
    let paused = replica::start(&folder, &scene.database, &scene.kafka, point, "STOP");
    stopped(&paused).await;
    let other = Fleet::start(&scene.database, Some(&scene.kafka), 1).await;
    guarantee::drained(&scene.database).await;
    for account in &mut scene.accounts {
        account.log_out(&other.balancer).await;
        account.log_in(&other.balancer).await;
    }
    guarantee::drained(&scene.database).await;
    paused.signal("CONT");
    paused.wait_for("\"held\":false").await;
    guarantee::assert_kept(&mut scene.accounts, &other.balancer).await;
    Some(guarantee::assert_published(&scene.database, &scene.kafka, &scene.accounts).await)
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
