//! How connections are made.

mod servers;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use diesel::ConnectionError;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Hook, HookError, Pool},
    },
};
use futures::FutureExt as _;

use self::servers::Servers;
use super::{Postgres, SqliteConn};
use crate::telemetry::Causes;

const NO_RUNTIME_NEEDED: &str = "only the pool's own time limits need a runtime";

/// Connections that were made before this time are not used again.
#[derive(Clone)]
pub(super) struct Oldest(Arc<RwLock<Instant>>);

impl Oldest {
    pub(super) fn now() -> Self {
        Self(Arc::new(RwLock::new(Instant::now())))
    }

    /// Uses none of the present connections again, because of one that was `made` then. New ones are
    /// made when they are needed. Later failures of the old ones change nothing.
    pub(super) fn renew(&self, made: Instant) {
        let mut oldest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *oldest <= made {
            *oldest = Instant::now();
        }
    }

    fn permits(&self, made: Instant) -> bool {
        *self.0.read().unwrap_or_else(PoisonError::into_inner) <= made
    }
}

/// A pool of Postgres connections. The server ends a statement after `timeout`, so that a call
/// which gave up leaves no work behind.
pub(super) fn postgres(
    postgres: &Postgres,
    max_connections: usize,
    timeout: Duration,
    oldest: Oldest,
) -> Pool<AsyncPgConnection> {
    let settings = format!(
        "SET default_transaction_isolation = 'read committed'; \
         SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}",
        // Zero would mean no limit.
        timeout.as_millis().max(1)
    );
    let servers = Arc::new(Servers::new(postgres, settings));

    let mut manager = ManagerConfig::default();
    // A closed connection is noticed without a query; a test query would double the cost of
    // Refresh.
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |_| {
        let servers = Arc::clone(&servers);
        async move { servers.connect().await }.boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(String::new(), manager);
    let pool = Pool::builder(manager)
        .max_size(max_connections)
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            if oldest.permits(metrics.created) {
                Ok(())
            } else {
                Err(HookError::message(
                    "it was made while the server was read-only",
                ))
            }
        }))
        .build();
    pool.expect(NO_RUNTIME_NEEDED)
}

/// A pool of one SQLite connection: SQLite has one writer, and waiting for our own connection is
/// fairer than waiting for the file's lock. Another process may hold that lock for half of
/// `timeout`.
pub(super) fn sqlite(path: &Path, timeout: Duration) -> Pool<SqliteConn> {
    let mut manager = ManagerConfig::default();
    manager.recycling_method = RecyclingMethod::Fast;
    // FULL: an acknowledged commit also survives a power loss.
    let settings = format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; \
         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        timeout.as_millis() / 2
    );
    manager.custom_setup = Box::new(move |path: &str| {
        let (path, settings) = (path.to_owned(), settings.clone());
        async move {
            make_private(&path).map_err(bad)?;
            let mut conn = SqliteConn::establish(&path).await?;
            conn.batch_execute(&settings).await.map_err(bad)?;
            Ok(conn)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(path.to_string_lossy(), manager);
    let pool = Pool::builder(manager).max_size(1).build();
    pool.expect(NO_RUNTIME_NEEDED)
}

/// Creates the file with private access: SQLite itself would let every user read it. An empty
/// file is an empty database, and SQLite gives its mode to the files beside it.
fn make_private(path: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.append(true).create_new(true).mode(0o600).open(path) {
        // Opening and closing it here would release SQLite's locks on it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        opened => opened.map(drop),
    }
}

/// Diesel keeps only text here, so the text includes the causes.
fn bad(error: impl std::error::Error) -> ConnectionError {
    ConnectionError::BadConnection(Causes(&error).to_string())
}
