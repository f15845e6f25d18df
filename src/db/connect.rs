//! How connections are made.

use std::{
    fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration,
};

use diesel::{ConnectionError, SqliteConnection};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool,
    },
    sync_connection_wrapper::SyncConnectionWrapper,
};
use futures::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Postgres, Trust};
use crate::{telemetry::Causes, tls};

const NO_RUNTIME_NEEDED: &str = "only time limits of the pool's own need a runtime";

/// How long one server of several may be silent before the next one is asked as well.
const SILENCE: Duration = Duration::from_millis(500);

/// A pool of Postgres connections. A statement that outlives `timeout` is ended by the
/// server, so that a call which gave up leaves no work behind.
pub(super) fn postgres(
    postgres: &Postgres,
    max_connections: usize,
    timeout: Duration,
) -> Pool<AsyncPgConnection> {
    let servers: Arc<[_]> = postgres.servers.clone().into();
    let tls = MakeRustlsConnect::new(match &postgres.trust {
        Trust::Anybody => tls::unverified_client(),
        Trust::Authorities(roots) => tls::client(Arc::clone(roots)),
    });
    let settings = format!(
        "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}",
        // Zero would mean no limit.
        timeout.as_millis().max(1)
    );

    let mut manager = ManagerConfig::default();
    // A closed connection is seen without a query; a test query would double Refresh's cost.
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |_| {
        let (servers, tls, settings) = (Arc::clone(&servers), tls.clone(), settings.clone());
        async move {
            let mut conn = first_willing(&servers, &tls).await?;
            conn.batch_execute(&settings).await.map_err(bad)?;
            Ok(conn)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(String::new(), manager);
    let pool = Pool::builder(manager).max_size(max_connections).build();
    pool.expect(NO_RUNTIME_NEEDED)
}

/// Connects to the first server that is what the URL wants (`target_session_attrs`). The
/// next one is asked as soon as the one before has refused or been silent for a while, so
/// that a server that hangs does not hide the one that took over from it.
async fn first_willing(
    servers: &[tokio_postgres::Config],
    tls: &MakeRustlsConnect,
) -> Result<AsyncPgConnection, ConnectionError> {
    let mut servers = servers.iter();
    let mut attempts = FuturesUnordered::new();
    let mut refusal = ConnectionError::BadConnection("no server is named".to_owned());
    loop {
        let more = servers
            .next()
            .map(|server| attempts.push(connect(server, tls)));
        let answer = match more {
            Some(()) => timeout(SILENCE, attempts.next()).await,
            None => Ok(attempts.next().await),
        };
        match answer {
            Ok(Some(Ok(conn))) => return Ok(conn),
            Ok(Some(Err(error))) => refusal = error,
            Ok(None) => return Err(refusal),
            Err(_) => {}
        }
    }
}

async fn connect(
    server: &tokio_postgres::Config,
    tls: &MakeRustlsConnect,
) -> Result<AsyncPgConnection, ConnectionError> {
    let (client, connection) = server.connect(tls.clone()).await.map_err(bad)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// A pool of one SQLite connection: SQLite has one writer, and waiting for our own
/// connection is fairer than waiting for the file's lock. Another process may hold that
/// lock for half of `timeout`.
pub(super) fn sqlite(
    path: &Path,
    timeout: Duration,
) -> Pool<SyncConnectionWrapper<SqliteConnection>> {
    let mut manager = ManagerConfig::default();
    manager.recycling_method = RecyclingMethod::Fast;
    // FULL: what was acknowledged also survives a power loss.
    let settings = format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; \
         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        timeout.as_millis() / 2
    );
    manager.custom_setup = Box::new(move |path: &str| {
        let (path, settings) = (path.to_owned(), settings.clone());
        async move {
            make_private(&path).map_err(bad)?;
            let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(&path).await?;
            conn.batch_execute(&settings).await.map_err(bad)?;
            Ok(conn)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(path.to_string_lossy(), manager);
    let pool = Pool::builder(manager).max_size(1).build();
    pool.expect(NO_RUNTIME_NEEDED)
}

/// Left to itself, SQLite would make a file that everybody may read; an empty one is an empty
/// database, whose mode SQLite also gives to the files beside it.
fn make_private(path: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.append(true).create_new(true).mode(0o600).open(path) {
        // Opening and closing it would give up SQLite's locks on it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        opened => opened.map(drop),
    }
}

/// Diesel keeps only text here, so the causes become part of it.
fn bad(error: impl std::error::Error) -> ConnectionError {
    ConnectionError::BadConnection(Causes(&error).to_string())
}
