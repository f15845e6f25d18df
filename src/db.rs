//! Everything the service keeps: accounts, sessions, requests of mails, unpublished events and
//! throttle counters, in Postgres or SQLite.
//!
//! [`Db`] is an enum of two pools. A query is written once, with Diesel, and `with_conn!`
//! expands it for each pool; `sql_types` hides the types that differ between the databases. One
//! method is one unit of work, named after the act, and it writes its events in the same
//! transaction. Races are settled by compare-and-set. Every unit of work has a time limit, and
//! no connection is held across anything that is not SQL.
//!
//! # Lock order
//!
//! Every transaction locks rows of users before rows of sessions and mail requests, and counters
//! last, so two acts cannot deadlock. An import writes rows of users in the order of their addresses;
//! two imports that give the same ids to other addresses may deadlock, and one is run again.
//! Deleting long ended sessions is the exception: if it deadlocks with the deletion of an
//! account, Postgres rolls one of them back, and it is run again. The same holds for deleting
//! expired mail requests. `throttle` locks its rows, in the order of their keys, in statements of
//! their own; a reset of the password locks those of one account.

mod admin;
mod cleanup;
mod close;
mod connect;
mod mail;
mod metrics;
mod migrate;
mod outbox;
mod password_hashes;
mod retry;
mod revocations;
mod rows;
mod schema;
mod sessions;
mod settings;
mod sql_types;
mod steps;
mod throttle;
mod transaction;
mod transition;
mod users;

use std::time::Duration;

use diesel::{ExpressionMethods as _, IntoSql as _, SqliteConnection, dsl::sql, sql_types::Bool};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _,
    pooled_connection::deadpool::{Object, Pool, PoolError},
    sync_connection_wrapper::SyncConnectionWrapper,
};
use prometheus_client::registry::Registry;
use tracing::{Span, info_span};

pub use self::{
    admin::{NewImport, NoReset, SetRoles},
    cleanup::Step,
    mail::{Change, FoundMail, MailRefusal, Reset, Revert},
    outbox::Hold,
    password_hashes::{Resealed, StaleHashes},
    revocations::{NewHash, Outcome},
    sessions::{NewSession, NextTokens, Rotation},
    settings::{Encryption, Postgres, Settings, Url},
    throttle::{Admission, Count, Counted, Key},
    users::{Advanced, NewUser, Registration},
};
use self::{
    connect::Oldest, metrics::Metrics, schema::outbox_lease, sessions::Batches, sql_types::Moment,
};
use crate::{model::Timestamp, telemetry::SPANS};

/// The database. Clones share one pool.
#[derive(Clone)]
pub struct Db {
    pools: Pools,
    /// Batches of refreshes, on Postgres.
    batches: Option<Batches>,
    /// The longest a unit of work may take, waiting for a connection included.
    timeout: Duration,
    /// Connections to Postgres from before this time are not used again.
    oldest: Oldest,
    metrics: Metrics,
}

#[derive(Clone)]
enum Pools {
    Postgres(Pool<AsyncPgConnection>),
    Sqlite(Pool<SqliteConn>),
}

type SqliteConn = SyncConnectionWrapper<SqliteConnection>;

/// Runs one unit of work within the time limit: the body, with `$conn` a connection of the pool.
/// After a conflict with another one the body is run again, so it must not use anything up.
macro_rules! with_conn {
    ($db:expr, $conn:ident => $body:expr) => {
        with_conn!($db, tokio::time::Instant::now() + $db.timeout, $conn => $body)
    };
    ($db:expr, $deadline:expr, $conn:ident => $body:expr) => {{
        let deadline = $deadline;
        match &$db.pools {
            $crate::db::Pools::Postgres(pool) => with_conn!(@ $db, pool, deadline, $conn => $body),
            $crate::db::Pools::Sqlite(pool) => with_conn!(@ $db, pool, deadline, $conn => $body),
        }
    }};
    (@ $db:expr, $pool:expr, $deadline:expr, $conn:ident => $body:expr) => {{
        fn here() {}
        let work = async {
            let mut retries = $crate::db::retry::Retries::new($deadline, &$db.metrics);
            loop {
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
                let Err(error) = done else { break done };
                let made = $crate::db::Object::metrics(&pooled).created;
                if $crate::db::retry::Conflict::of(&error).is_none() {
                    // The connection may hang, be about to close, or lead to a former primary.
                    drop($crate::db::Object::take(pooled));
                } else {
                    drop(pooled);
                }
                if error.is_read_only() {
                    // Those that were made at the same time stay read-only, even after the server
                    // accepts writes again.
                    $db.oldest.renew(made);
                }
                retries.wait_after(error).await?;
            }
        };
        tracing::Instrument::instrument(work, $crate::db::span(here)).await
    }};
}
use with_conn;

/// The span of a unit of work, named after the method that contains `here`. Work that belongs to
/// no call has no span.
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

/// The failure of a unit of work. Nothing of it is written then, with one exception: after a
/// lost connection or a time-out the commit may have succeeded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to the database")]
    Connect(#[from] PoolError),
    #[error("the database failed")]
    Query(#[from] diesel::result::Error),
    #[error("the database did not answer in time")]
    Timeout,
    #[error(
        "the database has the encoding {0}, which cannot hold all text: create one with \
         ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    #[error("cannot migrate the database")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the database has migration {version}, which this version does not know: run a newer one"
    )]
    NewerSchema { version: String },
}

impl Error {
    fn is_read_only(&self) -> bool {
        use diesel::result::{DatabaseErrorKind::ReadOnlyTransaction, Error::DatabaseError};
        matches!(self, Self::Query(DatabaseError(ReadOnlyTransaction, _)))
    }
}

impl Db {
    /// Creates the pool; connections are made when they are needed. `timeout` bounds every
    /// unit of work.
    pub fn new(settings: &Settings, timeout: Duration, registry: &mut Registry) -> Self {
        let metrics = Metrics::register(registry);
        let oldest = Oldest::now();
        let (pools, batches) = match &settings.url {
            Url::Postgres(postgres) => {
                let pool =
                    connect::postgres(postgres, settings.max_connections, timeout, oldest.clone());
                let batches = (settings.batch_refreshes)
                    .then(|| Batches::new(pool.clone(), timeout, oldest.clone(), metrics.clone()));
                (Pools::Postgres(pool), batches)
            }
            Url::Sqlite(path) => (Pools::Sqlite(connect::sqlite(path, timeout)), None),
        };
        Self {
            pools,
            batches,
            timeout,
            oldest,
            metrics,
        }
    }

    /// The longest that a unit of work may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets the metrics of the connections to their present numbers.
    pub fn count_connections(&self) {
        let status = match &self.pools {
            Pools::Postgres(pool) => pool.status(),
            Pools::Sqlite(pool) => pool.status(),
        };
        let busy = status.size.saturating_sub(status.available);
        self.metrics.pool(busy, status.available, status.max_size);
    }

    /// The database's clock: a second opinion for a replica whose own clock may be wrong.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let now = self.sql_now();
        with_conn!(self, conn => {
            diesel::select(sql::<Moment>(now)).get_result(conn).await?
        })
    }

    /// The SQL of the database's clock, read when it is evaluated.
    const fn sql_now(&self) -> &'static str {
        match self.pools {
            Pools::Postgres(_) => "clock_timestamp()",
            // Microseconds since 1970, as in the columns of time.
            Pools::Sqlite(_) => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        }
    }

    /// The SQL of the database's clock and a time span after it.
    fn sql_now_and(&self, later: Duration) -> String {
        let now = self.sql_now();
        match self.pools {
            Pools::Postgres(_) => format!("{now} + interval '{} milliseconds'", later.as_millis()),
            Pools::Sqlite(_) => format!("{now} + {}", later.as_micros()),
        }
    }

    /// Succeeds if the database can write: a standby, which only reads, does not suffice.
    ///
    /// Postgres refuses an UPDATE in a read-only transaction even if it is of no row. Thus the
    /// checks of all replicas lock no row that the lease needs. SQLite writes the row, because
    /// only a write finds a full disk, and it has one writer anyway.
    pub async fn ping(&self) -> Result<(), Error> {
        let writes_the_row = matches!(self.pools, Pools::Sqlite(_));
        with_conn!(self, conn => {
            diesel::update(outbox_lease::table)
                .filter(writes_the_row.into_sql::<Bool>())
                .set(outbox_lease::owner.eq(outbox_lease::owner))
                .execute(conn)
                .await?;
        })
    }
}
