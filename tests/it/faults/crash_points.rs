//! kill -9 at exactly the points that matter to an event.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use tempfile::TempDir;

use super::{
    customers::Account,
    fleet::Fleet,
    guarantee,
    replica::{self, Point},
};
use crate::harness::{EVENTS, Kafka, Process, TestDatabase, both};

const SIGKILL: i32 = 9;

/// Accounts with two events each, written by a replica that has no Kafka.
pub struct Scene {
    /// Where everything is written.
    pub database: TestDatabase,
    /// Where it goes.
    pub kafka: Kafka,
    /// What the clients were told.
    pub accounts: Vec<Account>,
    writer: Fleet,
}

impl Scene {
    /// `None`, said aloud, without Kafka.
    pub async fn set(database: TestDatabase) -> Option<Self> {
        let kafka = Kafka::new().await?;
        let writer = Fleet::start(&database, None, 1).await;
        let mut scene = Self {
            database,
            kafka,
            accounts: Vec::new(),
            writer,
        };
        scene.write().await;
        Some(scene)
    }

    /// Four more accounts, eight more events.
    async fn write(&mut self) {
        for _ in 0..4 {
            let balancer = &self.writer.balancer;
            let mut account = Account::open(balancer).await;
            account.log_out(balancer).await;
            account.log_in(balancer).await;
            self.accounts.push(account);
        }
    }

    /// How many records and rows there are.
    async fn counts(&self) -> (usize, i64) {
        (
            self.kafka.records().await.len(),
            self.database.count(EVENTS).await,
        )
    }

    /// Another replica takes over at once, as if the lease had ended. Returns how many
    /// records were duplicates.
    async fn recover(&mut self) -> usize {
        self.database.end_lease().await;
        let fleet = Fleet::start(&self.database, Some(&self.kafka), 1).await;
        guarantee::assert_kept(&mut self.accounts, &fleet.balancer).await;
        guarantee::assert_published(&self.database, &self.kafka, &self.accounts).await
    }
}

/// Runs a replica that kills itself at `point`.
fn crash(scene: &Scene, point: Point) -> (TempDir, Process) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let replica = replica::start(&folder, &scene.database, &scene.kafka, point, "KILL");
    (folder, replica)
}

both! {
    async fn a_replica_killed_with_the_lease_in_hand_is_replaced(database: TestDatabase) {
        let Some(mut scene) = Scene::set(database).await else { return };
        for table in ["outbox_events", "sessions", "users"] {
            scene.database.execute(&format!("DELETE FROM {table}")).await;
        }
        scene.accounts.clear();
        let mut replica = Process::serve(&scene.database, &scene.kafka.variables());
        replica.wait_for("outbox lease acquired").await;
        replica.signal("KILL");
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        scene.write().await;
        assert_eq!(scene.counts().await, (0, 8));
        assert_eq!(scene.recover().await, 0);
    }

    async fn a_replica_killed_before_a_produce_loses_nothing(database: TestDatabase) {
        let Some(mut scene) = Scene::set(database).await else { return };
        let (_folder, mut replica) = crash(&scene, Point::BeforeProduce);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(scene.counts().await, (0, 8));
        assert_eq!(scene.recover().await, 0);
    }

    async fn a_replica_killed_before_the_delete_causes_duplicates_only(database: TestDatabase) {
        let Some(mut scene) = Scene::set(database).await else { return };
        let (_folder, mut replica) = crash(&scene, Point::BeforeDelete);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(scene.counts().await, (8, 8));
        assert_eq!(scene.recover().await, 8);
    }

    async fn a_replica_killed_after_the_delete_causes_none(database: TestDatabase) {
        let Some(mut scene) = Scene::set(database).await else { return };
        let (_folder, mut replica) = crash(&scene, Point::AfterDelete);
        guarantee::drained(&scene.database).await;
        assert_eq!(scene.counts().await, (8, 0));
        let account = Account::open(&scene.writer.balancer).await;
        scene.accounts.push(account);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(scene.counts().await, (8, 1));
        assert_eq!(scene.recover().await, 0);
    }
}

/// Waits until a process is stopped, not ended.
pub async fn stopped(replica: &Process) {
    let stat = format!("/proc/{}/stat", replica.pid());
    let stopped = async {
        loop {
            let text = std::fs::read_to_string(&stat).expect("it is there");
            let (_, fields) = text.rsplit_once(") ").expect("the format of proc(5)");
            if fields.starts_with('T') {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), stopped)
        .await
        .expect("it stops");
}
