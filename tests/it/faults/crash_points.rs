//! Replicas that are killed (kill -9) at the points that matter to an event.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use tempfile::TempDir;

use super::{
    clients::Account,
    fleet::Fleet,
    guarantee,
    replica::{self, Point},
};
use crate::harness::{EVENTS, Kafka, Process, TestDatabase, both};

const SIGKILL: i32 = 9;

/// Accounts with two events each. A replica without Kafka wrote them.
pub struct Setup {
    pub database: TestDatabase,
    pub kafka: Kafka,
    pub accounts: Vec<Account>,
    writer: Fleet,
}

impl Setup {
    /// `None` without Kafka; then the test was skipped.
    pub async fn create(database: TestDatabase) -> Option<Self> {
        let kafka = Kafka::new().await?;
        let writer = Fleet::start(&database, None, 1).await;
        let mut setup = Self {
            database,
            kafka,
            accounts: Vec::new(),
            writer,
        };
        setup.write().await;
        Some(setup)
    }

    /// Adds four accounts and eight events.
    async fn write(&mut self) {
        for _ in 0..4 {
            let balancer = &self.writer.balancer;
            let mut account = Account::open(balancer).await;
            account.log_out(balancer).await;
            account.log_in(balancer).await;
            self.accounts.push(account);
        }
    }

    /// The numbers of records on the topic and of rows in the outbox.
    async fn counts(&self) -> (usize, i64) {
        (
            self.kafka.records().await.len(),
            self.database.count(EVENTS).await,
        )
    }

    /// Another replica takes over at once, without the wait for the lease. Returns the number of
    /// duplicates.
    async fn recover(&mut self) -> usize {
        self.database.end_lease().await;
        let fleet = Fleet::start(&self.database, Some(&self.kafka), 1).await;
        guarantee::assert_kept(&mut self.accounts, &fleet.balancer).await;
        guarantee::assert_published(&self.database, &self.kafka, &self.accounts).await
    }
}

/// Runs a replica that kills itself at `point`.
fn crash(setup: &Setup, point: Point) -> (TempDir, Process) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let replica = replica::start(&folder, &setup.database, &setup.kafka, point, "KILL");
    (folder, replica)
}

both! {
    async fn a_replica_killed_with_the_lease_in_hand_is_replaced(database: TestDatabase) {
        let Some(mut setup) = Setup::create(database).await else { return };
        for table in ["outbox_events", "sessions", "users"] {
            setup.database.execute(&format!("DELETE FROM {table}")).await;
        }
        setup.accounts.clear();
        let mut replica = Process::serve(&setup.database, &setup.kafka.variables());
        replica.wait_for("outbox lease acquired").await;
        replica.signal("KILL");
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        setup.write().await;
        assert_eq!(setup.counts().await, (0, 8));
        assert_eq!(setup.recover().await, 0);
    }

    async fn a_replica_killed_before_a_produce_loses_nothing(database: TestDatabase) {
        let Some(mut setup) = Setup::create(database).await else { return };
        let (_folder, mut replica) = crash(&setup, Point::BeforeProduce);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(setup.counts().await, (0, 8));
        assert_eq!(setup.recover().await, 0);
    }

    async fn a_replica_killed_before_the_delete_causes_duplicates_only(database: TestDatabase) {
        let Some(mut setup) = Setup::create(database).await else { return };
        let (_folder, mut replica) = crash(&setup, Point::BeforeDelete);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(setup.counts().await, (8, 8));
        assert_eq!(setup.recover().await, 8);
    }

    async fn a_replica_killed_after_the_delete_causes_none(database: TestDatabase) {
        let Some(mut setup) = Setup::create(database).await else { return };
        let (_folder, mut replica) = crash(&setup, Point::AfterDelete);
        guarantee::drained(&setup.database).await;
        assert_eq!(setup.counts().await, (8, 0));
        let account = Account::open(&setup.writer.balancer).await;
        setup.accounts.push(account);
        assert_eq!(replica.killed_by().await, Some(SIGKILL));
        assert_eq!(setup.counts().await, (8, 1));
        assert_eq!(setup.recover().await, 0);
    }
}

/// Waits until a process is stopped by a signal.
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
