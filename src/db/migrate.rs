//! Migrations: embedded in the binary, one set for each database with the same names.
//!
//! Many replicas may start at once, and not every Postgres-compatible database has advisory
//! locks. Therefore each replica simply tries. A migration and the row that records it are one
//! transaction, and the primary key of that row lets one replica win. The others look again and
//! find nothing left to do.

use std::{collections::HashSet, time::Duration};

use diesel::{
    QueryDsl as _, backend::Backend, dsl::sql, migration::MigrationSource, pg::Pg, sql_types::Bool,
    sqlite::Sqlite,
};
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Db, Error, Pools, schema::TABLES, with_conn};
use crate::telemetry::Causes;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A lost race ends when the winner has committed. A migration that still fails after this many
/// attempts has failed for another reason.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

impl Db {
    /// Brings the schema up to date. Refuses one that is newer than this binary.
    /// Needs a multi-threaded runtime, because Diesel's migrations are blocking code.
    pub async fn migrate(&self) -> Result<(), Error> {
        for _ in 1..ATTEMPTS {
            match self.try_to_migrate().await {
                Err(error @ (Error::Migrate(_) | Error::Query(_))) => {
                    // Another process may hold the database for long: the log says why this one
                    // waits.
                    let error = Causes(&error);
                    info!(%error, "cannot migrate the database yet, trying again");
                }
                done => return done,
            }
            sleep(PAUSE).await;
        }
        self.try_to_migrate().await
    }

    /// The number of migrations that have not run yet. Refuses a newer schema.
    pub async fn pending_migrations(&self) -> Result<usize, Error> {
        let known = match &self.pools {
            Pools::Postgres(_) => versions::<Pg>(&POSTGRES)?,
            Pools::Sqlite(_) => versions::<Sqlite>(&SQLITE)?,
        };
        let applied = self.applied_migrations().await?;
        match applied.difference(&known).max().cloned() {
            Some(version) => Err(Error::NewerSchema { version }),
            None => Ok(known.len() - applied.len()),
        }
    }

    /// The versions that have run. (Diesel's own query first creates its table, which needs a
    /// right that a service may not have.)
    async fn applied_migrations(&self) -> Result<HashSet<String>, Error> {
        use self::__diesel_schema_migrations::{table, version};

        let exists = match &self.pools {
            Pools::Postgres(_) => "to_regclass('__diesel_schema_migrations') IS NOT NULL",
            Pools::Sqlite(_) => {
                "EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations')"
            }
        };
        with_conn!(self, conn => {
            if diesel::select(sql::<Bool>(exists)).get_result(conn).await? {
                table.select(version).load(conn).await?.into_iter().collect()
            } else {
                HashSet::new()
            }
        })
    }

    /// Whether this role may do with the tables what the service does, or create tables if some
    /// migrations are `pending`. Only Postgres has roles.
    pub async fn has_rights(&self, pending: usize) -> Result<bool, Error> {
        let has_rights = match (&self.pools, pending) {
            (Pools::Sqlite(_), _) => return Ok(true),
            (Pools::Postgres(_), 0) => format!(
                "(SELECT bool_and(has_table_privilege(t, p)) FROM
                  unnest(ARRAY['{}']) t,
                  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p)",
                TABLES.join("', '")
            ),
            (Pools::Postgres(_), _) => {
                "COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)".to_owned()
            }
        };
        with_conn!(self, conn => {
            diesel::select(sql::<Bool>(&has_rights)).get_result(conn).await?
        })
    }

    /// A migration is one blocking step without a time limit; everything else has one. The
    /// schema is checked again at the end: a newer binary may have been faster.
    async fn try_to_migrate(&self) -> Result<(), Error> {
        if self.pending_migrations().await? == 0 {
            return Ok(());
        }
        let silent = |_| Error::Timeout;
        match &self.pools {
            Pools::Postgres(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                let mut harness = AsyncMigrationHarness::new(conn);
                let done = harness.run_pending_migrations(POSTGRES);
                done.map(drop).map_err(Error::Migrate)?;
                tune(&mut harness.into_inner(), self.timeout).await;
            }
            Pools::Sqlite(pool) => {
                let conn = timeout(self.timeout, pool.get()).await.map_err(silent)??;
                let mut harness = AsyncMigrationHarness::new(conn);
                let done = harness.run_pending_migrations(SQLITE);
                done.map(drop).map_err(Error::Migrate)?;
            }
        }
        self.pending_migrations().await.map(drop)
    }
}

/// The outbox is a queue of short-lived rows, and the lease is one row that is written all the
/// time. Both are vacuumed after a number of changes, not after a share of the table.
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

/// Not every Postgres-compatible database has these settings (CockroachDB has not).
async fn tune(conn: &mut AsyncPgConnection, limit: Duration) {
    match timeout(limit, conn.batch_execute(TUNING)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            info!(error = %Causes(&error), "this database does without settings of autovacuum");
        }
        Err(_) => info!("the settings of autovacuum took too long"),
    }
}

fn versions<DB: Backend>(known: &EmbeddedMigrations) -> Result<HashSet<String>, Error> {
    let known = MigrationSource::<DB>::migrations(known).map_err(Error::Migrate)?;
    let versions = known.iter().map(|known| known.name().version().to_string());
    Ok(versions.collect())
}
