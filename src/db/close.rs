//! The end of the connections.

use std::time::Duration;

use diesel_async::{SimpleAsyncConnection as _, pooled_connection::deadpool::Object};
use tokio::time::timeout;
use tracing::warn;

use super::{Db, Pools};
use crate::telemetry::Causes;

/// The time limit for a call that still uses SQLite's connection, and for another process that
/// uses the file. With the drain, a stop must end within 15 s.
const WAIT: Duration = Duration::from_millis(300);
const CHECKPOINT: &str = "PRAGMA busy_timeout = 300; PRAGMA wal_checkpoint(TRUNCATE)";

impl Db {
    /// Closes all connections. SQLite's write-ahead log is first written into the file, and the
    /// files beside it go with the last connection of all processes: one complete file remains.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Postgres(pool) => pool.close(),
            Pools::Sqlite(pool) => {
                // A file that cannot be opened has no log, and its error was reported before.
                if pool.status().size > 0
                    && let Ok(Ok(pooled)) = timeout(WAIT, pool.get()).await
                {
                    let mut conn = Object::take(pooled);
                    if let Err(error) = conn.batch_execute(CHECKPOINT).await {
                        warn!(error = %Causes(&error), "auth.db-wal still holds changes");
                    }
                }
                pool.close();
            }
        }
    }
}
