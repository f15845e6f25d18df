//! No password, no refresh token and no token of a mail stays anywhere: not in the memory of the process once its
//! connections are closed, not in its log at the most verbose level, and not in the files of
//! the database, which also hold deleted rows and the journal.
//!
//! A search that finds nothing proves nothing unless it can find something. The test puts a
//! known text in each place, and the search must find it.

mod mails;
mod search;
mod traffic;

use std::fs;

use self::{
    mails::recover,
    search::{assert_database_is_clean, assert_log_is_clean, assert_memory_is_clean},
    traffic::{Traffic, break_off, manage_account, mistype, registration, sign_in, use_sessions},
};
use crate::harness::{
    Backend, GATEWAY, NO_THROTTLE, OnBackend, PostgresServer, Process, TestDatabase, both, soak,
};

fn start(database: &TestDatabase, cost: &str) -> Process {
    let scopes = ("INTERNAL_SCOPES", "gateway=keys+address+mail");
    let own = [("BCRYPT_COST", cost), ("LOG", "trace"), scopes];
    Process::serve(database, &[&own[..], &GATEWAY, &NO_THROTTLE].concat())
}

/// A database whose files the test can read. For Postgres that takes a server of its own.
struct Storage {
    database: TestDatabase,
    server: Option<PostgresServer>,
}

impl OnBackend for Storage {
    async fn on(backend: Backend) -> Option<Self> {
        let (database, server) = match backend {
            Backend::Sqlite => (TestDatabase::create(backend).await?, None),
            Backend::Postgres => {
                let server = PostgresServer::start().await?;
                (
                    TestDatabase::create_at(&server.url(), "").await,
                    Some(server),
                )
            }
        };
        Some(Self { database, server })
    }
}

impl Storage {
    /// The content of each file, after the database has written its pages.
    async fn files(&self) -> Vec<(String, Vec<u8>)> {
        let Some(server) = &self.server else {
            let file = self
                .database
                .sqlite_file()
                .expect("a file")
                .display()
                .to_string();
            let parts = ["", "-wal", "-shm"].map(|part| format!("{file}{part}"));
            let read = parts.map(|part| {
                let bytes = fs::read(&part).expect("the journal is there too");
                (part, bytes)
            });
            return read.into();
        };
        self.database.execute("CHECKPOINT").await;
        server.files()
    }
}

both! {
    async fn no_secret_is_left_anywhere(storage: Storage) {
        let database = &storage.database;
        let mut traffic = Traffic::default();

        // The next login of these accounts upgrades their hash to the new cost.
        let mut process = start(database, "10");
        let mut old = Vec::new();
        let mut client = process.client().await;
        for _ in 0..soak(4, 40) {
            let (email, password) = (traffic.email(), traffic.password());
            client.register(registration(&email, &password)).await.unwrap();
            old.push((email, password));
        }
        drop(client);
        process.signal("TERM");
        process.exit_code().await;
        let mut log = process.log();

        let process = start(database, "11");
        let addr = process.grpc_addr().await;
        for (email, password) in &old {
            sign_in(&mut traffic, addr, email, password).await;
        }
        for _ in 0..soak(4, 40) {
            use_sessions(&mut traffic, addr).await;
            manage_account(&mut traffic, addr).await;
            recover(&mut traffic, addr, database).await;
            mistype(&mut traffic, addr).await;
            break_off(&mut traffic, addr).await;
        }
        for (email, _) in &old {
            let hash = database.password_hash(email).await;
            assert!(hash.starts_with("$2b$11$"), "all upgraded");
        }

        assert_memory_is_clean(&process, &traffic, addr).await;
        log.extend(process.log());
        assert_log_is_clean(&log, &traffic);
        assert_database_is_clean(&storage, &traffic).await;
    }
}
