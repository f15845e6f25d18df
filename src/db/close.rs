//! The end of the connections.

use std::time::Duration;

use diesel::{QueryResult, sql_query, sql_types::Integer};
use diesel_async::{
    RunQueryDsl as _, SimpleAsyncConnection as _, pooled_connection::deadpool::Object,
};
use tokio::time::timeout;
use tracing::warn;

use super::{Db, Pools, SqliteConn};
use crate::telemetry::Causes;

/// The time limit for a call that still uses SQLite's connection, and for another process that
/// uses the file. With the drain, a stop must end within 15 s.
const WAIT: Duration = Duration::from_millis(300);
const BUSY_TIMEOUT: &str = "PRAGMA busy_timeout = 300";

const UNFINISHED: &str =
    "the file -wal still holds changes, without which a copy of the database is incomplete";

/// The answer of a checkpoint. It is no error that another process uses the file.
#[derive(diesel::QueryableByName)]
struct Checkpoint {
    #[diesel(sql_type = Integer)]
    busy: i32,
}

async fn checkpoint(conn: &mut SqliteConn) -> QueryResult<Checkpoint> {
    conn.batch_execute(BUSY_TIMEOUT).await?;
    let checkpoint = sql_query("PRAGMA wal_checkpoint(TRUNCATE)");
    checkpoint.get_result(conn).await
}

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
                    match checkpoint(&mut conn).await {
                        Ok(Checkpoint { busy: 0 }) => {}
                        Ok(_) => warn!("{UNFINISHED}: another process uses the file"),
                        Err(error) => warn!(error = %Causes(&error), "{UNFINISHED}"),
                    }
                }
                pool.close();
            }
        }
    }
}
