//! The counters alone are written without a flush of the log: a crash of the database may forget a
//! guess, and never an account, a session or an event.

use super::{ANA, Outcome::In, device_of, enter, guess, on_device, send, with_ana};
use crate::harness::{Backend, TestDatabase, login};

/// Notes, at the commit of each change, whether the commit waits for the log.
const WITNESSES: &str = "
    CREATE TABLE witnessed (at text, waits text);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO witnessed VALUES (TG_ARGV[0], current_setting('synchronous_commit'));
        RETURN NULL;
    END $$";

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_but_that_of_a_counter_returns_before_it_is_flushed() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    // The server of the tests flushes nothing.
    let on = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on',
        current_database()); END $$";
    database.execute(on).await;
    let service = with_ana(database, &[]).await;
    let device = device_of(&service, ANA).await;
    let database = &service.database;
    database.execute(WITNESSES).await;
    let tables = ["login_throttle", "sessions", "users", "outbox_events"];
    for table in tables {
        let sql = format!(
            "CREATE CONSTRAINT TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON {table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION witness('{table}')"
        );
        database.execute(&sql).await;
    }
    // One counter and several, raised, taken back and left.
    assert_eq!(
        send(&service, "192.0.2.1", on_device(&device, login(ANA))).await,
        In
    );
    assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    guess(&service, ANA, "192.0.2.1").await;
    service.sign_up("ben@example.com").await;
    let sql = "SELECT DISTINCT at || ' ' || waits FROM witnessed ORDER BY 1";
    let found: Vec<_> = database.texts(sql).await.into_iter().flatten().collect();
    assert_eq!(
        found,
        [
            "login_throttle off",
            "outbox_events on",
            "sessions on",
            "users on"
        ]
    );
}
