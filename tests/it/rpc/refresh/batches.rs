//! Refreshes that arrive while others are in flight go to Postgres in one statement, and none
//! affects another.
//!
//! A test forces a batch: it fills all slots with refreshes whose rows it has locked. Further
//! refreshes are queued, and go as a batch once the rows are free.

use std::time::Duration;

use auth_service::{
    db::{Db, Error, Rotation},
    model::Refreshable,
};
use futures::{
    future::{join, join_all},
    poll,
};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::harness::{Backend, START, TestDatabase, db, hex_of};

/// The number of statements that may be in flight.
const SLOTS: u8 = 2;
/// The time limit of a rotation.
const TIMEOUT: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// The sessions have the numbers 0, 1, ..
const SESSIONS: u8 = 200;

fn hash(kind: u8, number: u8) -> [u8; 32] {
    let mut hash = [kind; 32];
    hash[31] = number;
    hash
}

/// The rotation of the current token of a session.
fn rotation(number: u8) -> Rotation {
    let (now, expires_at) = (START, START + HOUR);
    Rotation {
        handle_hash: hash(1, number),
        token_hash: hash(2, number),
        new_token_hash: hash(3, number),
        sealed_successor: hash(4, number),
        now,
        expires_at,
        access_tokens_expire_at: expires_at,
    }
}

/// A database with one user and the sessions, and the storage layer on it.
async fn setup() -> Option<(TestDatabase, Db)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let db = db(&database, TIMEOUT);
    db.migrate().await.unwrap();
    let (handle, token) = (hex_of(&hash(1, 0)[..31]), hex_of(&hash(2, 0)[..31]));
    let last = SESSIONS - 1;
    let sql = format!(
        "INSERT INTO users VALUES (gen_random_uuid(), 'a@example.com', 'x', 1, now(), now());
         INSERT INTO sessions SELECT gen_random_uuid(), id, decode('{handle}' || n, 'hex'),
             decode('{token}' || n, 'hex'), NULL, NULL, 1, n, '{START}', '{START}',
             timestamptz '{START}' + interval '1 minute', timestamptz '{START}' + interval '1 day',
             NULL, NULL
         FROM users, generate_series(0, {last}) i, lpad(to_hex(i), 2, '0') n"
    );
    database.execute(&sql).await;
    Some((database, db))
}

/// Locks the rows of sessions until the release.
async fn hold(database: &TestDatabase, numbers: impl IntoIterator<Item = u8>) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.direct_url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await.unwrap();
    for number in numbers {
        let sql = format!("SELECT 1 FROM sessions WHERE device_name = '{number:02x}' FOR UPDATE");
        client.batch_execute(&sql).await.unwrap();
    }
    client
}

async fn release(holder: Client) {
    holder.batch_execute("COMMIT").await.unwrap();
}

/// Rotations that fill all slots. The rows of their sessions are the ones to lock.
fn in_flight() -> Vec<Rotation> {
    (SESSIONS - SLOTS..SESSIONS).map(rotation).collect()
}

fn all<'a>(
    db: &'a Db,
    rotations: &'a [Rotation],
) -> impl Future<Output = Vec<Result<Option<Refreshable>, Error>>> + Unpin {
    join_all(rotations.iter().map(|rotation| db.rotate(rotation)))
}

/// Queues `rotations`, then lets them go as a batch. Returns their answers.
async fn together(
    database: &TestDatabase,
    db: &Db,
    rotations: &[Rotation],
) -> Vec<Result<Option<Refreshable>, Error>> {
    let holder = hold(database, SESSIONS - SLOTS..SESSIONS).await;
    let holders = in_flight();
    let (mut holders, mut queued) = (all(db, &holders), all(db, rotations));
    assert!(poll!(&mut holders).is_pending());
    assert!(poll!(&mut queued).is_pending());
    release(holder).await;
    let (holders, answers) = join(holders, queued).await;
    for (number, answer) in (SESSIONS - SLOTS..).zip(&holders) {
        assert!(is_rotated(answer, number), "{number}");
    }
    answers
}

/// A queued rotation runs alone after half of its time limit. This is earlier.
async fn before_it_runs_alone<T>(rotation: impl Future<Output = T>) -> T {
    timeout(TIMEOUT / 4, rotation).await.expect("a slot")
}

fn is_rotated(answer: &Result<Option<Refreshable>, Error>, number: u8) -> bool {
    matches!(answer, Ok(Some(found)) if found.session.token_hash == hash(3, number))
}

/// The number of transactions that wrote the sessions below `count` last.
async fn transactions(database: &TestDatabase, count: u8) -> i64 {
    let sql = format!(
        "SELECT count(DISTINCT xmin::text) FROM sessions WHERE device_name < '{count:02x}'"
    );
    database.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_queued_rotations_go_in_one_statement() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let rotations: Vec<_> = (0..64).map(rotation).collect();
    let answers = together(&database, &db, &rotations).await;
    for (number, answer) in (0..).zip(&answers) {
        assert!(is_rotated(answer, number), "{number}");
    }
    assert_eq!(transactions(&database, 64).await, 1);
    let other = "SELECT count(*) FROM sessions WHERE generation = 2
        AND previous_token_hash = set_byte(decode(repeat('02', 32), 'hex'), 31, get_byte(token_hash, 31))
        AND sealed_successor = set_byte(decode(repeat('04', 32), 'hex'), 31, get_byte(token_hash, 31))
        AND get_byte(token_hash, 0) = 3 AND get_byte(token_hash, 31) = get_byte(handle_hash, 31)";
    assert_eq!(database.count(other).await, i64::from(64 + SLOTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_touches_no_index() {
    let Some((database, db)) = setup().await else {
        return;
    };
    // As many as fit on their page, for HOT updates.
    let rotations: Vec<_> = (0..3).map(rotation).collect();
    together(&database, &db, &rotations).await;
    // Postgres updates its statistics some time later.
    let hot = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'";
    database.wait_for(hot, i64::from(3 + SLOTS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_rotations_of_one_token_in_a_batch_one_wins() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let mut rotations: Vec<_> = (0..40).map(|n| rotation(n / 4)).collect();
    for (n, rotation) in (0..).zip(&mut rotations) {
        rotation.new_token_hash = hash(5, n);
        rotation.sealed_successor = hash(6, n);
    }
    let answers = together(&database, &db, &rotations).await;
    for (four, rotations) in answers.chunks(4).zip(rotations.chunks(4)) {
        let won = four.iter().zip(rotations).filter_map(|(answer, rotation)| {
            let found = answer.as_ref().unwrap().as_ref()?;
            assert_eq!(found.session.token_hash, rotation.new_token_hash);
            let sealed = found.session.sealed_successor.as_deref();
            assert_eq!(sealed, Some(&rotation.sealed_successor[..]));
            Some(())
        });
        assert_eq!(won.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_rotated_is_refused_and_the_rest_are_rotated() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let ended = "UPDATE sessions SET revoked_at = now() WHERE device_name = '01'";
    database.execute(ended).await;
    let mut rotations: Vec<_> = (0..10).map(rotation).collect();
    rotations[3].token_hash = hash(9, 3);
    rotations[5].handle_hash = hash(9, 5);
    rotations[7].now = START + HOUR;
    let answers = together(&database, &db, &rotations).await;
    for (number, answer) in (0..).zip(&answers) {
        match number {
            1 | 3 | 5 | 7 => assert!(matches!(answer, Ok(None)), "{number}"),
            _ => assert!(is_rotated(answer, number), "{number}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_fails_fails_alone() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let sql = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON sessions FOR EACH ROW
            WHEN (OLD.device_name = '05') EXECUTE FUNCTION refuse()";
    database.execute(sql).await;
    let rotations: Vec<_> = (0..20).map(rotation).collect();
    let answers = together(&database, &db, &rotations).await;
    for (number, answer) in (0..).zip(&answers) {
        match number {
            5 => assert!(matches!(answer, Err(Error::Query(_)))),
            _ => assert!(is_rotated(answer, number), "{number}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_does_not_delay_the_others() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let holder = hold(&database, [5]).await;
    let slots = hold(&database, SESSIONS - SLOTS..SESSIONS).await;
    let (holders, mine) = (in_flight(), rotation(5));
    let others = (0..5).map(rotation).collect::<Vec<_>>();
    let (mut holders, mut others) = (all(&db, &holders), all(&db, &others));
    let mut mine = Box::pin(db.rotate(&mine));
    assert!(poll!(&mut holders).is_pending());
    assert!(poll!(&mut others).is_pending());
    assert!(poll!(&mut mine).is_pending());
    release(slots).await;
    let (_, others) = join(holders, others).await;
    for (number, answer) in (0..).zip(&others) {
        assert!(is_rotated(answer, number), "{number}");
    }
    assert!(poll!(&mut mine).is_pending());
    release(holder).await;
    assert!(is_rotated(&mine.await, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_waits_for_a_row_gives_its_slot_to_others() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let holder = hold(&database, SESSIONS - SLOTS..SESSIONS).await;
    let holders = in_flight();
    let mut holders = all(&db, &holders);
    assert!(poll!(&mut holders).is_pending());
    let next = rotation(0);
    let next = db.rotate(&next);
    tokio::select! {
        answers = &mut holders => panic!("{} answers without the rows", answers.len()),
        answer = before_it_runs_alone(next) => assert!(is_rotated(&answer, 0)),
    }
    release(holder).await;
    for (number, answer) in (SESSIONS - SLOTS..).zip(holders.await) {
        assert!(is_rotated(&answer, number), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_of_callers_that_left_are_dropped_and_delay_no_other() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let holder = hold(&database, SESSIONS - SLOTS..SESSIONS).await;
    let (holders, gone) = (in_flight(), (0..10).map(rotation).collect::<Vec<_>>());
    let stayed: Vec<_> = (10..20).map(rotation).collect();
    let (mut holders, mut gone, mut stayed) =
        (all(&db, &holders), all(&db, &gone), all(&db, &stayed));
    assert!(poll!(&mut holders).is_pending());
    assert!(poll!(&mut gone).is_pending());
    assert!(poll!(&mut stayed).is_pending());
    drop(gone);
    release(holder).await;
    let (_, stayed) = join(holders, stayed).await;
    for (number, answer) in (10..).zip(&stayed) {
        assert!(is_rotated(answer, number), "{number}");
    }
    let rotated = "SELECT count(*) FROM sessions WHERE device_name < '0a' AND generation > 1";
    assert_eq!(database.count(rotated).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_caller_that_left_goes_to_queued_rotations() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let gone = in_flight();
    for number in 0..3 {
        let holder = hold(&database, SESSIONS - SLOTS..SESSIONS).await;
        let next = rotation(number);
        let (mut gone, mut next) = (all(&db, &gone), Box::pin(db.rotate(&next)));
        assert!(poll!(&mut gone).is_pending());
        assert!(poll!(&mut next).is_pending());
        drop(gone);
        release(holder).await;
        assert!(is_rotated(&before_it_runs_alone(next).await, number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_rotate_the_same_sessions_in_opposite_orders_do_not_deadlock() {
    let Some((database, _)) = setup().await else {
        return;
    };
    // Longer than this test, so that Postgres does not resolve a deadlock unnoticed.
    let long_timeout = "DO $$ BEGIN EXECUTE format(
        'ALTER DATABASE %I SET deadlock_timeout = ''1min''', current_database()); END $$";
    database.execute(long_timeout).await;
    let (db, other) = (db(&database, TIMEOUT), db(&database, TIMEOUT));
    for round in 0..20_u8 {
        let rotations: Vec<_> = (0..60)
            .map(|number| {
                let mut rotation = rotation(number);
                if round > 0 {
                    rotation.token_hash = hash(2 + round, number);
                }
                rotation.new_token_hash = hash(3 + round, number);
                rotation
            })
            .collect();
        let call = |db: Db, rotation: &Rotation| {
            let rotation = rotation.clone();
            tokio::spawn(async move { db.rotate(&rotation).await })
        };
        let forth: Vec<_> = rotations.iter().map(|e| call(db.clone(), e)).collect();
        let back: Vec<_> = rotations
            .iter()
            .rev()
            .map(|e| call(other.clone(), e))
            .collect();
        let both = timeout(
            Duration::from_secs(15),
            join(join_all(forth), join_all(back)),
        );
        let (forth, back) = both.await.expect("no deadlock");
        for (forth, back) in forth.into_iter().zip(back.into_iter().rev()) {
            let won = [forth, back].map(|answer| answer.unwrap().unwrap().is_some());
            assert_ne!(won[0], won[1], "one of two wins");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_above_the_limit_go_in_the_next_batch() {
    let Some((database, db)) = setup().await else {
        return;
    };
    let rotations: Vec<_> = (0..180).map(rotation).collect();
    let answers = together(&database, &db, &rotations).await;
    for (number, answer) in (0..).zip(&answers) {
        assert!(is_rotated(answer, number), "{number}");
    }
    assert_eq!(transactions(&database, 180).await, 2);
}
