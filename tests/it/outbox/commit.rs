//! An event and the act that causes it are one transaction, and each committed event is found.

use std::sync::Arc;

use auth_service::{outbox::Outcome, proto::RegisterRequest};
use tokio_postgres::NoTls;
use tonic::Code;

use super::{Fake, insert_events, log_out, poller, sign_up};
use crate::harness::{
    Backend, EVENTS, ManualClock, START, Service, TestDatabase, both, build, logout, reason,
    refused, register,
};

/// Makes the database refuse inserts into a table.
async fn break_inserts(database: &TestDatabase, table: &str) {
    let sql = match database.backend() {
        Backend::Sqlite => format!(
            "CREATE TRIGGER broken BEFORE INSERT ON {table}
             BEGIN SELECT RAISE(ABORT, 'broken'); END;"
        ),
        Backend::Postgres => format!(
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
             CREATE TRIGGER broken BEFORE INSERT ON {table}
                 FOR EACH ROW EXECUTE FUNCTION broken();"
        ),
    };
    database.execute(&sql).await;
}

async fn repair_inserts(database: &TestDatabase, table: &str) {
    let sqlite = "DROP TRIGGER broken";
    let postgres = format!("DROP TRIGGER broken ON {table}; DROP FUNCTION broken");
    database.execute(database.dialect(sqlite, &postgres)).await;
}

both! {
    async fn a_registration_that_is_rolled_back_leaves_no_user_and_no_event(service: Service) {
        let request = RegisterRequest {
            start_session: true,
            ..register("ana@example.com")
        };
        for table in ["outbox_events", "sessions"] {
            break_inserts(&service.database, table).await;
            let status = refused(service.client().register(request.clone()).await);
            assert_eq!(reason(&status), (Code::Internal, "INTERNAL".to_owned()));
            for table in ["users", "sessions", "outbox_events"] {
                assert_eq!(
                    service
                        .database
                        .count(&format!("SELECT count(*) FROM {table}"))
                        .await,
                    0
                );
            }
            repair_inserts(&service.database, table).await;
        }
        service.client().register(request).await.unwrap();
        assert_eq!(service.database.count(EVENTS).await, 1);
    }

    async fn a_logout_whose_event_cannot_be_written_does_not_happen(service: Service) {
        let (_, token) = sign_up(&service, "ana@example.com").await;
        break_inserts(&service.database, "outbox_events").await;
        let status = refused(service.client().logout(logout(&token)).await);
        assert_eq!(status.code(), Code::Internal);
        let live = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
        assert_eq!(service.database.count(live).await, 1);
        assert_eq!(
            service
                .database
                .count("SELECT event_version FROM users")
                .await,
            1
        );
        repair_inserts(&service.database, "outbox_events").await;
        log_out(&service, &token).await;
        assert_eq!(service.database.count(live).await, 0);
        assert_eq!(
            service
                .database
                .count("SELECT max(user_version) FROM outbox_events")
                .await,
            2
        );
    }

    async fn a_refused_registration_writes_no_event(service: Service) {
        sign_up(&service, "ana@example.com").await;
        refused(service.client().register(register("ana@example.com")).await);
        assert_eq!(service.database.count(EVENTS).await, 1);
    }
}

/// A database with the schema, but no service.
async fn empty_postgres() -> Option<TestDatabase> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let clock = Arc::new(ManualClock::new(START));
    drop(build(&database, clock, &[]).await.unwrap());
    Some(database)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_commits_late_with_a_lower_id_is_not_missed() {
    const INSERT: &str =
        "INSERT INTO outbox_events (event_id, user_id, user_version, event_type, occurred_at, payload)
         VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'USER_CREATED', now(), '') RETURNING id";

    let Some(database) = empty_postgres().await else {
        return;
    };
    let (mut late, connection) = tokio_postgres::connect(&database.direct_url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let transaction = late.transaction().await.unwrap();
    let lower: i64 = transaction.query_one(INSERT, &[]).await.unwrap().get(0);
    let (other, connection) = tokio_postgres::connect(&database.direct_url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let higher: i64 = other.query_one(INSERT, &[]).await.unwrap().get(0);
    assert!(lower < higher);

    let fake = Arc::new(Fake::default());
    let mut poller = poller(&database, &fake);
    assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
    assert_eq!(poller.tick().await.unwrap(), Outcome::Idle);
    transaction.commit().await.unwrap();
    assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
    let ids: Vec<_> = fake
        .batches()
        .iter()
        .flatten()
        .map(|event| event.id)
        .collect();
    assert_eq!(ids, [higher, lower]);
    assert_eq!(database.count(EVENTS).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_are_deleted_in_one_statement() {
    let Some(database) = empty_postgres().await else {
        return;
    };
    insert_events(&database, 30).await;
    database
        .execute(
            "CREATE TABLE deletes (rows bigint);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN INSERT INTO deletes SELECT count(*) FROM gone; RETURN NULL; END $$;
             CREATE TRIGGER note AFTER DELETE ON outbox_events REFERENCING OLD TABLE AS gone
                 FOR EACH STATEMENT EXECUTE FUNCTION note();",
        )
        .await;
    poller(&database, &Arc::new(Fake::default()))
        .tick()
        .await
        .unwrap();
    let deletes = database
        .texts("SELECT CAST(rows AS TEXT) FROM deletes")
        .await;
    assert_eq!(deletes, [Some("30".to_owned())]);
}
