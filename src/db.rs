//! Everything the service keeps: accounts, sessions, unpublished events and counts of
//! guesses, in Postgres or SQLite.
//!
//! [`Db`] is two pools behind one enum. A query is written once, with Diesel, and
//! `with_conn!` expands it for each pool; types that differ between the databases are
//! settled in `sql_types`. One method is one unit of work, named after the business
//! act, and it writes its event in the same transaction. Races are settled by
//! compare-and-set. Every unit has a time limit, and no connection is held across
//! anything that is not SQL.
//!
//! Rows are locked in one order, users before sessions: two acts cannot deadlock. (The sweep
//! of long ended sessions has an order of its own. Should it meet the end of an account in
//! the same rows, Postgres undoes one of the two, which is tried again.)
//!
//! What [`throttle`] locks it locks in statements of its own.

mod accounts;
mod cleanup;
mod connect;
mod metrics;
mod migrate;
mod outbox;
mod revocations;
mod schema;
mod sessions;
mod settings;
mod sql_types;
mod throttle;
mod users;

use std::time::Duration;

use diesel::{ExpressionMethods as _, SqliteConnection};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _,
    pooled_connection::deadpool::{Pool, PoolError},
    sync_connection_wrapper::SyncConnectionWrapper,
};

use prometheus_client::registry::Registry;
use tracing::{Span, info_span};

pub use self::{
    cleanup::Step,
    revocations::{NewHash, Outcome},
    sessions::{NewSession, Rotation},
    settings::{Postgres, Settings, Trust, Url},
    throttle::{Admission, Attempt, Count, Counted, Key, Settlement},
    users::{NewUser, Registration},
};
use self::{metrics::Metrics, schema::outbox_lease, sessions::group::Groups};
use crate::telemetry::SPANS;

/// The database. Clones share one pool.
#[derive(Clone)]
pub struct Db {
    pools: Pools,
    /// Refreshes that go together, on Postgres.
    groups: Option<Groups>,
    /// The longest a unit of work may take, waiting for a connection included.
    timeout: Duration,
    metrics: Metrics,
}

#[derive(Clone)]
enum Pools {
    Postgres(Pool<AsyncPgConnection>),
    Sqlite(Pool<SqliteConn>),
}

type SqliteConn = SyncConnectionWrapper<SqliteConnection>;

/// Runs one unit of work: the body, with `$conn` a connection of whichever pool there
/// is, within the time limit.
macro_rules! with_conn {
    ($db:expr, $conn:ident => $body:expr) => {{
        let deadline = tokio::time::Instant::now() + $db.timeout;
        with_conn!($db, deadline, $conn => $body)
    }};
    ($db:expr, $deadline:expr, $conn:ident => $body:expr) => {{
        let deadline = $deadline;
        match &$db.pools {
            $crate::db::Pools::Postgres(pool) => {
                with_conn!(@ $db, pool, deadline, $conn => $body)
            }
            $crate::db::Pools::Sqlite(pool) => {
                with_conn!(@ $db, pool, deadline, $conn => $body)
            }
        }
    }};
    (@ $db:expr, $pool:expr, $deadline:expr, $conn:ident => $body:expr) => {{
        fn here() {}
        let work = async {
            let asked = tokio::time::Instant::now();
            let got = tokio::time::timeout_at($deadline, $pool.get()).await;
            $db.metrics.waited(asked);
            let mut pooled = got.map_err(|_| $crate::db::Error::Timeout)??;
            let done = tokio::time::timeout_at($deadline, async {
                let $conn = &mut *pooled;
                Ok::<_, $crate::db::Error>($body)
            })
            .await
            .unwrap_or(Err($crate::db::Error::Timeout));
            if done.is_err() {
                // It may hang, be about to close, or lead to what was the primary.
                drop(diesel_async::pooled_connection::deadpool::Object::take(pooled));
            }
            done
        };
        tracing::Instrument::instrument(work, $crate::db::span(here)).await
    }};
}
use with_conn;

/// The span of a unit of work, named after the method that holds `here`. Work of no call
/// belongs to no trace.
fn span<F>(_here: F) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let name = || {
        let mut path = std::any::type_name::<F>().rsplit("::");
        path.find(|part| !matches!(*part, "here" | "{{closure}}"))
    };
    info_span!(target: SPANS, "sql", otel.name = name(), otel.kind = "client")
}

/// Why a unit of work failed. Nothing of it is written then, with one exception: after a
/// lost connection or a timeout a commit may have gone through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be had.
    #[error("cannot connect to the database")]
    Connect(#[from] PoolError),
    /// The database refused a statement or went away.
    #[error("the database failed")]
    Query(#[from] diesel::result::Error),
    /// The time limit passed.
    #[error("the database did not answer in time")]
    Timeout,
    /// A migration failed.
    #[error("cannot migrate the database")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was migrated by a newer version of this service.
    #[error(
        "the database has migration {version}, which this version does not know: run a newer one"
    )]
    NewerSchema {
        /// The newest unknown migration.
        version: String,
    },
}

impl Db {
    /// Opens the pool; connections are made when they are needed. `timeout` bounds every
    /// unit of work.
    #[must_use]
    pub fn new(settings: &Settings, timeout: Duration, registry: &mut Registry) -> Self {
        let metrics = Metrics::register(registry);
        let (pools, groups) = match &settings.url {
            Url::Postgres(postgres) => {
                let pool = connect::postgres(postgres, settings.max_connections, timeout);
                let groups = Groups::new(pool.clone(), timeout, metrics.clone());
                (Pools::Postgres(pool), Some(groups))
            }
            Url::Sqlite(path) => (Pools::Sqlite(connect::sqlite(path, timeout)), None),
        };
        Self {
            pools,
            groups,
            timeout,
            metrics,
        }
    }

    /// Counts the connections as they are now.
    pub fn count_connections(&self) {
        let status = match &self.pools {
            Pools::Postgres(pool) => pool.status(),
            Pools::Sqlite(pool) => pool.status(),
        };
        let busy = status.size.saturating_sub(status.available);
        self.metrics.pool(busy, status.available, status.max_size);
    }

    /// The same database with every refresh on its own: what grouping is measured against.
    #[must_use]
    pub fn ungrouped(self) -> Self {
        let groups = None;
        Self { groups, ..self }
    }

    /// Asks the database for a sign of life: that it writes. One that only reads, such as a
    /// standby, serves no call of ours.
    pub async fn ping(&self) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::update(outbox_lease::table)
                .set(outbox_lease::owner.eq(outbox_lease::owner))
                .execute(conn)
                .await?;
        })
    }
}
