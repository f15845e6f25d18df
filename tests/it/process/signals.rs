//! Every command ends at once on SIGTERM and SIGINT: also while it waits, and as process 1 of its
//! own namespace, for which the kernel has no default action.

use std::{fs, io, path::Path, process::Command};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpListener, net::unix::pipe};
use tokio_postgres::NoTls;

use crate::harness::{Backend, DATA_KEY, JWT_SECRET, Process, TestDatabase, both, eventually};

const SIGNALS: [&str; 2] = ["TERM", "INT"];
const UNFINISHED: &str = "before the command was done";

/// A transaction of the test, which the service waits for. It ends with this value.
enum Lock {
    Sqlite(#[expect(dead_code, reason = "it holds the lock")] SqliteConnection),
    Postgres(#[expect(dead_code, reason = "it holds the lock")] tokio_postgres::Client),
}

/// The connections that wait for the lock.
const WAITING: &str =
    "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";

impl Lock {
    async fn take(database: &TestDatabase, postgres: &str) -> Self {
        if let Some(file) = database.sqlite_file() {
            let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
            // In this mode the lock outlives the transaction, and nobody reads beside it.
            let hold = "PRAGMA busy_timeout = 5000; PRAGMA locking_mode = EXCLUSIVE; \
                        BEGIN EXCLUSIVE; CREATE TABLE held (held INT); ROLLBACK";
            conn.batch_execute(hold).unwrap();
            return Self::Sqlite(conn);
        }
        let (client, connection) = tokio_postgres::connect(&database.url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
            .batch_execute(&format!("BEGIN; {postgres}"))
            .await
            .unwrap();
        Self::Postgres(client)
    }
}

/// Waits until the process waits for the lock.
async fn until_waiting(pid: u32, database: &TestDatabase) {
    match database.sqlite_file() {
        Some(file) => eventually(async || has_open(pid, &file)).await,
        None => {
            let waiting = format!("SELECT count(*) {WAITING}");
            database.wait_for(&waiting, 1).await;
        }
    }
}

/// Postgres notices only after its wait that the process has gone.
async fn forget(database: &TestDatabase) {
    if database.backend() == Backend::Postgres {
        let end = format!("SELECT pg_terminate_backend(pid) {WAITING}");
        database.execute(&end).await;
        database
            .wait_for(&format!("SELECT count(*) {WAITING}"), 0)
            .await;
    }
}

fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link == path))
}

/// Each command twice: with both signals, and as process 1.
async fn assert_ends_while_it_waits(database: &TestDatabase, command: &str, code: i32) {
    let url = database.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
        ("LOG_FORMAT", "text"),
    ];
    let arguments: Vec<_> = command.split(' ').collect();
    // A command that gives up by itself ends with 1 too, so the log has to name the cause.
    let said = if code == 0 {
        "finishing what runs"
    } else {
        UNFINISHED
    };
    for signal in SIGNALS {
        let folder = TempDir::new().unwrap();
        let mut process = Process::start(folder.path(), &arguments, &variables);
        until_waiting(process.pid(), database).await;
        process.signal(signal);
        assert_eq!(process.exit_code().await, Some(code), "{command} {signal}");
        process.wait_for(said).await;
        forget(database).await;

        let mut process = Process::start_as_process_one(folder.path(), &arguments, &variables);
        let pid = process.child().await;
        until_waiting(pid, database).await;
        process.signal_child(signal).await;
        assert_eq!(
            process.exit_code().await,
            Some(code),
            "{command} {signal} as process 1"
        );
        process.wait_for(said).await;
        forget(database).await;
    }
}

both! {
    async fn a_migration_that_waits_for_a_lock_ends_on_a_signal(database: TestDatabase) {
        let lock = Lock::take(&database, "CREATE TABLE __diesel_schema_migrations (version text)").await;
        assert_ends_while_it_waits(&database, "migrate", 1).await;
        if database.backend() == Backend::Postgres {
            assert_ends_while_it_waits(&database, "serve", 0).await;
        }
        drop(lock);
        let tables = database.dialect(
            "SELECT count(*) FROM sqlite_schema",
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        );
        database.wait_for(tables, 0).await;
    }

    async fn a_command_that_waits_for_a_lock_ends_on_a_signal(database: TestDatabase) {
        let url = database.url();
        let migrated = Process::run(&std::env::temp_dir(), &["migrate"], &[("DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, Some(0), "{}", migrated.stderr);
        let _lock = Lock::take(&database, "LOCK TABLE __diesel_schema_migrations, outbox_events").await;
        for command in ["migrate", "check-config", "outbox list", "outbox requeue --all", "users list"] {
            assert_ends_while_it_waits(&database, command, 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_without_an_answer_ends_on_a_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    for signal in SIGNALS {
        let folder = TempDir::new().unwrap();
        let variables = [("ADMIN_ADDR", addr.as_str())];
        let mut process =
            Process::start_as_process_one(folder.path(), &["healthcheck"], &variables);
        let (mut asked, _) = listener.accept().await.unwrap();
        asked.read_exact(&mut [0; 4]).await.unwrap();
        process.signal_child(signal).await;
        assert_eq!(process.exit_code().await, Some(1));
        process.wait_for(UNFINISHED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_a_file_ends_on_a_signal() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("secret");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let secret = [("JWT_SECRET_FILE", pipe.to_str().unwrap())];
    let url = [("DATABASE_URL_FILE", pipe.to_str().unwrap())];
    for (command, variables) in [
        ("keys jwks", &secret),
        ("migrate", &url),
        ("check-config", &url),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        for signal in SIGNALS {
            let mut process = Process::start_as_process_one(folder.path(), &arguments, variables);
            // Opens as soon as there is a reader, and keeps that reader waiting.
            let mut writer: io::Result<pipe::Sender> = Err(io::ErrorKind::NotFound.into());
            eventually(async || {
                writer = pipe::OpenOptions::new().open_sender(&pipe);
                writer.is_ok()
            })
            .await;
            process.signal_child(signal).await;
            assert_eq!(process.exit_code().await, Some(1), "{command} {signal}");
            process.wait_for(UNFINISHED).await;
        }
    }
}
