//! Transactions that name their isolation level, whatever the server, the role or a pooler in
//! between has set: the acts rely on READ COMMITTED, where a statement that waited for a row
//! reads its newest version.

use diesel::{QueryResult, connection, result};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, TransactionManager,
};

use super::SqliteConn;

pub(super) trait Begin: AsyncConnection {
    async fn begin(&mut self) -> QueryResult<()>;
}

impl Begin for AsyncPgConnection {
    async fn begin(&mut self) -> QueryResult<()> {
        let sql = "BEGIN ISOLATION LEVEL read committed";
        AnsiTransactionManager::begin_transaction_sql(self, sql).await
    }
}

impl Begin for SqliteConn {
    /// A transaction that reads first and then writes fails at once if another process wrote in
    /// between (`SQLITE_BUSY_SNAPSHOT`). This one waits for the write lock before it reads.
    async fn begin(&mut self) -> QueryResult<()> {
        let begin = |conn: &mut _| {
            connection::AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")
        };
        self.spawn_blocking(begin).await
    }
}

/// Runs `work` in a transaction: committed if it succeeds, else rolled back.
pub(super) async fn transaction<C, R, E>(
    conn: &mut C,
    work: impl AsyncFnOnce(&mut C) -> Result<R, E>,
) -> Result<R, E>
where
    C: Begin,
    E: From<result::Error>,
{
    conn.begin().await?;
    match work(conn).await {
        Ok(done) => {
            C::TransactionManager::commit_transaction(conn).await?;
            Ok(done)
        }
        Err(error) => match C::TransactionManager::rollback_transaction(conn).await {
            // The error of the work is the cause of the broken connection.
            Ok(()) | Err(result::Error::BrokenTransactionManager) => Err(error),
            Err(rollback) => Err(rollback.into()),
        },
    }
}
