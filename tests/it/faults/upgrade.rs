//! Two versions run side by side, as in a rolling upgrade.

use super::{clients::Account, fleet::Fleet};
use crate::harness::{Process, TestDatabase, both, settings};

const NEWER: &str = "29990101000000";

both! {
    async fn a_running_replica_goes_on_when_a_newer_one_has_migrated(database: TestDatabase) {
        let fleet = Fleet::start(&database, None, 1).await;
        let balancer = &fleet.balancer;
        // The replica uses statements that its connections have prepared.
        let mut account = Account::open(balancer).await;
        account.refresh(balancer).await;
        account.log_out(balancer).await;
        account.log_in(balancer).await;
        // A migration only adds, as documented.
        let sql = format!(
            "ALTER TABLE users ADD COLUMN nickname text;
             ALTER TABLE sessions ADD COLUMN colour text;
             ALTER TABLE outbox_events ADD COLUMN priority integer NOT NULL DEFAULT 0;
             CREATE TABLE friends (user_id integer PRIMARY KEY);
             INSERT INTO __diesel_schema_migrations (version) VALUES ('{NEWER}')"
        );
        database.execute(&sql).await;
        account.refresh(balancer).await;
        account.log_out(balancer).await;
        account.log_in(balancer).await;
        Account::open(balancer).await.refresh(balancer).await;
        assert_eq!(balancer.counts().1, 0);

        // The old version must not start any more: it does not know what the migration changed.
        let folder = tempfile::tempdir().unwrap();
        let url = database.url();
        let output = Process::run(folder.path(), &[], &settings(&url, &[])).await;
        assert_eq!(output.code, Some(1));
        let log = output.stderr;
        let said = format!("the database has migration {NEWER}, which this version does not know");
        assert!(log.contains(&said), "{log}");
    }

    async fn replicas_that_start_at_once_on_an_empty_database_agree(database: TestDatabase) {
        let fleet = Fleet::start(&database, None, 4).await;
        let mut account = Account::open(&fleet.balancer).await;
        for _ in 0..4 {
            account.refresh(&fleet.balancer).await;
        }
        assert_eq!(fleet.balancer.counts().1, 0);
    }
}
