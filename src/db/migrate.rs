//! Migrations: embedded in the binary, one set for each database with the same names.
//!
//! Many replicas may start at once, and not every Postgres-compatible database has advisory
//! locks. Therefore each replica simply tries. A migration and the row that records it are one
//! transaction, and the primary key of that row lets one replica win. The others look again and
//! find nothing left to do.
//!
//! Not every Postgres-like database can roll back a change of the schema. Each statement of a
//! migration can be run again, and the row that records it is written last: after a crash
//! between any two statements, the next start goes on.

use std::{collections::HashSet, time::Duration};

use diesel::{
    QueryDsl as _,
    backend::Backend,
    dsl::sql,
    migration::MigrationSource,
    pg::Pg,
    sql_types::{Bool, Text},
    sqlite::Sqlite,
};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl as _, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time::{Instant, sleep, timeout};
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
    /// Brings the schema up to date. Refuses one that is newer than this binary. Needs a
    /// multi-threaded runtime, because Diesel's migrations are blocking code.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.check_encoding().await?;
        let mut attempts = 1;
        while let Err(error) = self.try_to_migrate().await {
            if attempts == ATTEMPTS || !matches!(error, Error::Migrate(_) | Error::Query(_)) {
                return Err(error);
            }
            attempts += 1;
            // Another process may hold the database for long: the log says why this one waits.
            info!(error = %Causes(&error), "cannot migrate the database yet, trying again");
            sleep(PAUSE).await;
        }
        self.tune().await;
        Ok(())
    }

    /// Refuses a Postgres database that cannot hold every character. (On SQLite every one can.)
    pub async fn check_encoding(&self) -> Result<(), Error> {
        if matches!(self.pools, Pools::Sqlite(_)) {
            return Ok(());
        }
        let encoding: String = with_conn!(self, conn => {
            diesel::select(sql::<Text>("current_setting('server_encoding')"))
                .get_result(conn)
                .await?
        })?;
        match encoding.as_str() {
            "UTF8" => Ok(()),
            _ => Err(Error::Encoding(encoding)),
        }
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

    /// Whether no migration has run yet.
    pub async fn is_new(&self) -> Result<bool, Error> {
        Ok(self.applied_migrations().await?.is_empty())
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

    /// Sets what [`TUNING`] sets, unless an earlier start did. Not every Postgres-compatible
    /// database has these settings (CockroachDB has not), and the service works without them.
    async fn tune(&self) {
        let Pools::Postgres(pool) = &self.pools else {
            return;
        };
        let deadline = Instant::now() + self.timeout;
        let tuned = with_conn!(@ self, pool, deadline, conn => {
            if !diesel::select(sql::<Bool>(IS_TUNED)).get_result::<bool>(conn).await? {
                conn.batch_execute(TUNING).await?;
            }
        });
        if let Err(error) = tuned {
            info!(error = %Causes(&error), "this database does without settings of autovacuum");
        }
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
const IS_TUNED: &str = "EXISTS (SELECT 1 FROM pg_class
    WHERE oid = to_regclass('outbox_events') AND reloptions IS NOT NULL)";

fn versions<DB: Backend>(known: &EmbeddedMigrations) -> Result<HashSet<String>, Error> {
    let known = MigrationSource::<DB>::migrations(known).map_err(Error::Migrate)?;
    let versions = known.iter().map(|known| known.name().version().to_string());
    Ok(versions.collect())
}
