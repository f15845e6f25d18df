//! How connections are made.

use std::{
    fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration,
};

use diesel::ConnectionError;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool,
    },
};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Postgres, SqliteConn, Trust};
use crate::{telemetry::Causes, tls};

const NO_RUNTIME_NEEDED: &str = "only the pool's own time limits need a runtime";

/// After this time without an answer from one server, the next one is asked as well.
const SILENCE: Duration = Duration::from_millis(500);

/// A pool of Postgres connections. The server ends a statement after `timeout`, so that a call
/// which gave up leaves no work behind.
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
        "SET default_transaction_isolation = 'read committed'; \
         SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}",
        // Zero would mean no limit.
        timeout.as_millis().max(1)
    );

    let mut manager = ManagerConfig::default();
    // A closed connection is noticed without a query; a test query would double the cost of
    // Refresh.
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |_| {
        let (servers, tls, settings) = (Arc::clone(&servers), tls.clone(), settings.clone());
        async move {
            let mut conn = first_suitable(&servers, &tls).await?;
            conn.batch_execute(&settings).await.map_err(bad)?;
            Ok(conn)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(String::new(), manager);
    let pool = Pool::builder(manager).max_size(max_connections).build();
    pool.expect(NO_RUNTIME_NEEDED)
}

/// Connects to the first server that the URL accepts (`target_session_attrs`). The next one is
/// asked as soon as the one before has refused or has not answered for [`SILENCE`], so that a
/// server that hangs does not hide its successor.
async fn first_suitable(
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
