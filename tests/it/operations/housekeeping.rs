//! Housekeeping deletes only sessions that ended some time ago.

use std::time::Duration;

use auth_service::{
    app::housekeeping::{delete_ended_sessions, tick_counters, tick_sessions},
    model::Timestamp,
};
use tonic::Code;
use uuid::Uuid;

use crate::harness::{START, Service, TestDatabase, both, config, db, reason, refused};

const HOUR: Duration = Duration::from_hours(1);
const MICROSECOND: Duration = Duration::from_micros(1);
/// The time that an ended session is kept.
const RETENTION: Duration = Duration::from_hours(24);

/// The row of a session.
struct Row {
    sliding_end: Timestamp,
    absolute_end: Timestamp,
    revoked: Option<Timestamp>,
}

const FAR: Duration = Duration::from_hours(10_000);

impl Row {
    /// A session that lives for a long time.
    fn live() -> Self {
        Self {
            sliding_end: START + FAR,
            absolute_end: START + FAR,
            revoked: None,
        }
    }

    fn expired(at: Timestamp) -> Self {
        Self {
            sliding_end: at,
            ..Self::live()
        }
    }

    fn at_its_absolute_end(at: Timestamp) -> Self {
        Self {
            absolute_end: at,
            ..Self::live()
        }
    }

    fn revoked(at: Timestamp) -> Self {
        Self {
            revoked: Some(at),
            ..Self::live()
        }
    }
}

/// Inserts sessions of the only user, with ids in random order. Returns the ids.
async fn insert(database: &TestDatabase, rows: &[Row]) -> Vec<String> {
    // Reversed, a UUIDv7 begins with its random part.
    let new_id = |_| Uuid::from_u128(Uuid::now_v7().as_u128().swap_bytes()).to_string();
    let ids: Vec<_> = rows.iter().map(new_id).collect();
    let user = database
        .text(&format!("SELECT {} FROM users", database.hex("id")))
        .await;
    let user_id = database.id(&user.expect("a user"));
    let start = database.time(START);
    let values: Vec<_> = rows
        .iter()
        .zip(&ids)
        .map(|(row, id)| {
            let hash = database.bytes(id.as_bytes());
            let (expires_at, ends_at) = (
                database.time(row.sliding_end),
                database.time(row.absolute_end),
            );
            let revoked_at = row.revoked.map(|at| database.time(at));
            let revoked_at = revoked_at.as_deref().unwrap_or("NULL");
            let id = database.id(id);
            format!(
                "({id}, {user_id}, {hash}, {hash}, 1, {start}, {start}, {expires_at}, {ends_at}, \
                 {revoked_at})"
            )
        })
        .collect();
    let columns = "id, user_id, handle_hash, token_hash, generation, created_at, rotated_at, \
                   expires_at, ends_at, revoked_at";
    let values = values.join(", ");
    database
        .execute(&format!("INSERT INTO sessions ({columns}) VALUES {values}"))
        .await;
    ids
}

/// The ids of all sessions, sorted.
async fn remaining(database: &TestDatabase) -> Vec<String> {
    let sql = format!("SELECT {} FROM sessions", database.hex("id"));
    let ids = database.texts(&sql).await.into_iter().flatten();
    sorted(ids)
}

fn sorted(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.replace('-', "")).collect();
    ids.sort();
    ids
}

both! {
    async fn sessions_are_deleted_a_day_after_they_ended(service: Service) {
        let first = service.sign_up("ana@example.com").await;
        let ends: [fn(Timestamp) -> Row; 3] =
            [Row::expired, Row::at_its_absolute_end, Row::revoked];
        let now = START + HOUR;
        let database = &service.database;
        let gone = ends.map(|end| end(now - RETENTION - MICROSECOND));
        insert(database, &gone).await;
        let mut kept = insert(database, &ends.map(|end| end(now - RETENTION))).await;
        kept.extend(insert(database, &ends.map(|end| end(now - MICROSECOND))).await);
        kept.extend(insert(database, &[Row::live()]).await);
        kept.push(first.id);

        assert_eq!(delete_ended_sessions(&db(database, Duration::from_secs(5)), now).await.unwrap(), 3);
        assert_eq!(remaining(database).await, sorted(kept));
        assert_eq!(delete_ended_sessions(&db(database, Duration::from_secs(5)), now).await.unwrap(), 0);
    }

    async fn all_batches_are_deleted_in_one_run(service: Service) {
        let first = service.sign_up("ana@example.com").await;
        let database = &service.database;
        // Three batches and a half. Every third row lives.
        let old = START - RETENTION - HOUR;
        let rows: Vec<_> = (0..1740)
            .map(|row| match row % 3 {
                0 => Row::live(),
                1 => Row::revoked(old),
                _ => Row::expired(old),
            })
            .collect();
        let ids = insert(database, &rows).await;
        let mut kept: Vec<_> = ids.into_iter().step_by(3).collect();
        kept.push(first.id);

        assert_eq!(delete_ended_sessions(&db(database, Duration::from_secs(5)), START).await.unwrap(), 1160);
        assert_eq!(remaining(database).await, sorted(kept));
    }

    async fn a_clock_that_is_ahead_deletes_nothing_that_lives(service: Service) {
        let first = service.sign_up("ana@example.com").await;
        let database = &service.database;
        let mut kept = insert(database, &[Row::live()]).await;
        // Ended long ago by the database's clock, too.
        insert(database, &[Row::expired(START - 1000 * HOUR)]).await;
        let far = database.time(START + 2 * FAR);
        let live = format!(
            "UPDATE sessions SET expires_at = {far}, ends_at = {far} WHERE id = {}",
            database.id(&first.id)
        );
        database.execute(&live).await;
        kept.push(first.id);
        let counter = database.bytes(&[7; 32]);
        let time = (START + 2 * FAR).as_micros();
        let counter = format!("INSERT INTO login_throttle VALUES ({counter}, {time}, 0, 0, 0, 0, 1, 0)");
        database.execute(&counter).await;

        let limits = config(database, &[]).auth.throttle;
        let (db, now) = (db(database, Duration::from_secs(5)), START + 1000 * FAR);
        tick_sessions(&db, now).await;
        tick_counters(&db, &limits, now).await;
        assert_eq!(remaining(database).await, sorted(kept));
        assert_eq!(database.count("SELECT count(*) FROM login_throttle").await, 1);
    }

    async fn nothing_is_deleted_from_an_empty_table(service: Service) {
        assert_eq!(delete_ended_sessions(&db(&service.database, Duration::from_secs(5)), START).await.unwrap(), 0);
    }

    async fn a_deleted_session_is_an_unknown_one(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let database = &service.database;
        service.log_out(&session.tokens.refresh_token).await.unwrap();
        let events = database.events().await.len();

        service.clock.set(START + RETENTION - HOUR);
        let other = service.refresh(&other.tokens.refresh_token).await.unwrap();
        service.clock.set(START + RETENTION + HOUR);
        assert_eq!(delete_ended_sessions(&db(database, Duration::from_secs(5)), START + RETENTION + HOUR).await.unwrap(), 1);

        let status = refused(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(reason(&status), (Code::Unauthenticated, "INVALID_TOKEN".to_owned()));
        service.log_out(&session.tokens.refresh_token).await.unwrap();
        service.refresh(&other.refresh_token).await.expect("the live one is still there");
        assert_eq!(database.events().await.len(), events, "deleting is no event");
    }
}
