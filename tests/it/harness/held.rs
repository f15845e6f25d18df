//! A transaction of the test that calls wait for, on Postgres.

use tokio_postgres::{Client, NoTls};

use super::TestDatabase;

/// The statements of the database that wait for a lock.
pub const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// It has not ended yet.
pub struct Held(Client);

impl Held {
    pub async fn begin(database: &TestDatabase, statements: &str) -> Self {
        let connected = tokio_postgres::connect(&database.direct_url(), NoTls).await;
        let (client, connection) = connected.expect("Postgres answers");
        tokio::spawn(connection);
        let sql = format!("BEGIN; {statements}");
        client
            .batch_execute(&sql)
            .await
            .expect("the statements run");
        Self(client)
    }

    /// Commits as soon as a call waits for it.
    pub async fn commit_when_awaited(self, database: &TestDatabase) {
        database.wait_for(WAITING, 1).await;
        self.commit().await;
    }

    pub async fn commit(self) {
        self.0.batch_execute("COMMIT").await.expect("it commits");
    }
}
