//! What remains of SQLite's files after a command: one complete file.

use std::{fs, path::Path};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use tempfile::TempDir;

use crate::harness::{Backend, EVENTS, FREE_PORTS, Process, TestDatabase, register};

/// The database is one file, and a copy of it alone has this number of events.
async fn assert_is_one_complete_file(folder: &Path, events: i64) {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with("auth.db"))
        .collect();
    names.sort();
    assert_eq!(names, ["auth.db"]);
    let elsewhere = TempDir::new().unwrap();
    fs::copy(folder.join("auth.db"), elsewhere.path().join("auth.db")).unwrap();
    assert_eq!(
        TestDatabase::in_folder(elsewhere.path())
            .count(EVENTS)
            .await,
        events
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_one_complete_file() {
    let folder = TempDir::new().unwrap();
    for (signal, events) in [("TERM", 1), ("INT", 2)] {
        let mut process = Process::start(folder.path(), &[], &FREE_PORTS);
        let email = format!("{signal}@example.com");
        process
            .client()
            .await
            .register(register(&email))
            .await
            .unwrap();
        process.signal(signal);
        assert_eq!(process.exit_code().await, Some(0));
        assert_is_one_complete_file(&folder.path().join("data"), events).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_one_complete_file() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let ports = [("GRPC_ADDR", addr.as_str()), ("ADMIN_ADDR", "127.0.0.1:0")];
    let ended = Process::run(folder.path(), &[], &ports).await;
    assert_eq!(ended.code, Some(1));
    assert_is_one_complete_file(&folder.path().join("data"), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_leaves_one_complete_file() {
    let folder = TempDir::new().unwrap();
    let unknown = "01a20fda-7110-7d2d-905e-1beca7432624";
    for (command, code) in [
        ("migrate", 0),
        ("migrate", 0),
        ("outbox list", 0),
        ("outbox requeue --all", 0),
        (&format!("outbox discard {unknown}"), 1),
        ("check-config", 0),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let ended = Process::run(folder.path(), &arguments, &[]).await;
        assert_eq!(ended.code, Some(code), "{command}: {}", ended.stderr);
        assert_is_one_complete_file(&folder.path().join("data"), 0).await;
    }
}

/// Another process that reads the file keeps the files beside it, but not the changes in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_beside_another_process_leaves_all_in_the_file() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let file = database.sqlite_file().unwrap();
    let mut process = Process::serve(&database, &[]);
    process
        .client()
        .await
        .register(register("ana@example.com"))
        .await
        .unwrap();
    let mut other = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other.batch_execute("SELECT count(*) FROM users").unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    let log = file.with_file_name("auth.db-wal");
    assert_eq!(fs::metadata(log).unwrap().len(), 0);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_beside_an_open_read_says_that_the_file_is_incomplete() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let file = database.sqlite_file().unwrap();
    let mut process = Process::serve(&database, &[]);
    let mut client = process.client().await;
    let mut other = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other
        .batch_execute("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    client.register(register("ana@example.com")).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    let log = file.with_file_name("auth.db-wal");
    assert_ne!(fs::metadata(log).unwrap().len(), 0);
    let said = "the file -wal still holds changes";
    let log = process.log().join("\n");
    assert!(log.contains(said), "{log}");
    drop(other);
}
