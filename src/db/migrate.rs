//! Migrations: embedded in the binary, one set for each database with the same names.
//!
//! Many replicas may start at once, and not every Postgres-compatible database has
//! advisory locks. So each replica just tries. A migration runs in one transaction with
//! the row that says it ran, whose primary key lets one replica win; the losers look
//! again and find nothing left to do.

use std::{error::Error as StdError, time::Duration};

use diesel::{backend::Backend, migration::MigrationSource};
use diesel_async::{
    AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::deadpool::Object,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Db, Error, Pools};
use crate::telemetry::Causes;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Losing a race is over once the winner has committed. What still fails after this many
/// tries fails for a reason of its own.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

type Fault = Box<dyn StdError + Send + Sync>;

impl Db {
    /// Brings the schema up to date. Refuses one that is newer than this binary.
    ///
    /// Needs a multi-threaded runtime, since Diesel's migrations are blocking code.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            match self.try_to_migrate().await {
                Err(Error::Migrate(cause)) if attempt < ATTEMPTS => {
                    // Or the start would be silent for as long as another process has the
                    // database to itself.
                    info!(cause, "cannot migrate the database yet, trying again");
                    attempt += 1;
                }
                done => return done,
            }
            sleep(PAUSE).await;
        }
    }

    /// How many migrations are still to be run. Changes nothing; refuses a newer schema.
    ///
    /// Needs a multi-threaded runtime, as [`Self::migrate`] does.
    pub async fn pending_migrations(&self) -> Result<usize, Error> {
        let silent = |_| Error::Timeout;
        match &self.pools {
            Pools::Postgres(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                count_pending(Object::take(conn), POSTGRES).await
            }
            Pools::Sqlite(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                count_pending(Object::take(conn), SQLITE).await
            }
        }
    }

    /// Only the wait for a connection is bounded here. A migration may take its time, and is
    /// one blocking step.
    async fn try_to_migrate(&self) -> Result<(), Error> {
        let silent = |_| Error::Timeout;
        match &self.pools {
            Pools::Postgres(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                let mut harness = AsyncMigrationHarness::new(conn);
                if run(&mut harness, POSTGRES)? {
                    tune(&mut harness.into_inner(), self.timeout).await;
                }
                Ok(())
            }
            Pools::Sqlite(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                run(&mut AsyncMigrationHarness::new(conn), SQLITE).map(drop)
            }
        }
    }
}

/// The outbox is a queue of short-lived rows, and the lease one row that is written all the
/// time: vacuum by count, not by share of the size.
const TUNING: &str = "
    ALTER TABLE outbox_events SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
        autovacuum_vacuum_cost_delay = 0
    );
    ALTER TABLE outbox_lease SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100
    );";

/// Sets what not every Postgres-compatible database has, CockroachDB for one.
async fn tune(conn: &mut AsyncPgConnection, limit: Duration) {
    match timeout(limit, conn.batch_execute(TUNING)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            info!(error = %Causes(&error), "this database does without settings of autovacuum");
        }
        Err(_) => info!("the settings of autovacuum took too long"),
    }
}

/// Diesel makes its table of migrations before it looks into it. That goes with the
/// transaction, which ends with the connection.
async fn count_pending<C>(mut conn: C, known: EmbeddedMigrations) -> Result<usize, Error>
where
    C: AsyncConnection,
    AsyncMigrationHarness<C>: MigrationHarness<C::Backend>,
{
    conn.begin_test_transaction().await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    if let Some(version) = newest_unknown(&mut harness, &known).map_err(Error::Migrate)? {
        return Err(Error::NewerSchema { version });
    }
    let pending = harness.pending_migrations(known).map_err(Error::Migrate)?;
    Ok(pending.len())
}

/// Says whether there was anything to do.
fn run<DB: Backend>(
    harness: &mut impl MigrationHarness<DB>,
    known: EmbeddedMigrations,
) -> Result<bool, Error> {
    if let Some(version) = newest_unknown(harness, &known).map_err(Error::Migrate)? {
        return Err(Error::NewerSchema { version });
    }
    let done = harness
        .run_pending_migrations(known)
        .map_err(Error::Migrate)?;
    Ok(!done.is_empty())
}

fn newest_unknown<DB: Backend>(
    harness: &mut impl MigrationHarness<DB>,
    known: &EmbeddedMigrations,
) -> Result<Option<String>, Fault> {
    let known = MigrationSource::<DB>::migrations(known)?;
    let applied = harness.applied_migrations()?;
    Ok(applied
        .into_iter()
        .filter(|version| !known.iter().any(|known| known.name().version() == *version))
        .map(|version| version.to_string())
        .max())
}
