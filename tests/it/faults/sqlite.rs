//! Two processes on one SQLite file. (`chaos` kills a process in the middle of writes.)

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

use super::{clients::Clients, fleet::Fleet, guarantee};
use crate::harness::{Backend, EVENTS, Process, Random, TestDatabase, settings};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_file_wait_for_each_other() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let mut random = Random::new();
    let fleet = Fleet::start(&database, None, 2).await;
    let clients = Clients::start(8, &fleet.balancer, &mut random);
    fleet.balancer.progress(400).await;
    let mut accounts = clients.stop().await;
    guarantee::assert_kept(&mut accounts, &fleet.balancer).await;
    let (answered, failed) = fleet.balancer.counts();
    assert_eq!(failed, 0, "of {answered}");
    let logouts: usize = accounts.iter().map(|account| account.ended.len()).sum();
    let events = database.count(EVENTS).await;
    assert_eq!(events, i64::try_from(accounts.len() + logouts).unwrap());
}

/// A file with our tables, held by a connection of the test after these statements.
async fn held(statements: &str) -> (TestDatabase, SqliteConnection) {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    // The replica ends a moment after the drop, so the statements below wait for its lock.
    drop(Fleet::start(&database, None, 1).await);
    let file = database.sqlite_file().unwrap();
    let mut holder = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let statements = format!("PRAGMA busy_timeout = 20000; {statements}");
    holder.batch_execute(&statements).unwrap();
    (database, holder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_file_that_another_process_writes_says_so_and_waits() {
    let (database, mut holder) = held("BEGIN IMMEDIATE").await;
    let process = Process::serve(&database, &[]);
    let said = process.wait_for("\"not serving\"").await;
    assert!(
        said.contains("database is locked") || said.contains("did not answer in time"),
        "{said}"
    );
    holder.batch_execute("ROLLBACK").unwrap();
    process.wait_for("\"serving\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_file_that_another_process_has_locked_fails_and_says_why() {
    let exclusive = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; \
                     UPDATE outbox_lease SET id = id; COMMIT";
    let (database, holder) = held(exclusive).await;
    let folder = tempfile::tempdir().unwrap();
    let url = database.url();
    let output = Process::run(folder.path(), &[], &settings(&url, &[])).await;
    assert_eq!(output.code, Some(1));
    let log = output.stderr;
    assert!(log.contains("database is locked"), "{log}");
    drop(holder);
}
