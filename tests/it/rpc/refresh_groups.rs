//! Refreshes that wait for each other go to Postgres together, and no one of them suffers
//! from another.
//!
//! A group is forced by beginning as many others as may be in flight, and not going on with
//! them: whoever comes then waits, and goes with all who wait once those are done.

use std::time::Duration;

use auth_service::{
    db::{Db, Error, Rotation},
    model::Session,
};
use futures::{
    future::{join, join_all},
    poll,
};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::harness::{Backend, START, TestDatabase, db, hex_of};

/// How many statements may be in flight.
const TURNS: u8 = 2;
/// Of one unit of work.
const TIMEOUT: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// The sessions 0, 1, .., each named by its number.
const SESSIONS: u8 = 100;

fn hash(kind: u8, number: u8) -> [u8; 32] {
    let mut hash = [kind; 32];
    hash[31] = number;
    hash
}

/// The rotation of a session's current token.
fn rotation(number: u8) -> Rotation {
    let (now, expires_at) = (START, START + HOUR);
    Rotation {
        handle_hash: hash(1, number),
        token_hash: hash(2, number),
        new_token_hash: hash(3, number),
        sealed_successor: hash(4, number),
        now,
        expires_at,
    }
}

/// The service's own side of a database with one user and their sessions.
async fn world() -> Option<(TestDatabase, Db)> {
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

/// Somebody who holds the rows of sessions until the release.
async fn hold(database: &TestDatabase, numbers: impl IntoIterator<Item = u8>) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls)
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

/// As many as may be in flight.
fn turn_holders() -> Vec<Rotation> {
    (SESSIONS - TURNS..SESSIONS).map(rotation).collect()
}

fn all<'a>(
    db: &'a Db,
    rotations: &'a [Rotation],
) -> impl Future<Output = Vec<Result<Option<Session>, Error>>> + Unpin {
    join_all(rotations.iter().map(|rotation| db.rotate(rotation)))
}

/// Lets `rotations` wait for each other, then go. Their answers.
async fn together(
    database: &TestDatabase,
    db: &Db,
    rotations: &[Rotation],
) -> Vec<Result<Option<Session>, Error>> {
    let holder = hold(database, SESSIONS - TURNS..SESSIONS).await;
    let holders = turn_holders();
    let (mut holders, mut waiting) = (all(db, &holders), all(db, rotations));
    assert!(poll!(&mut holders).is_pending());
    assert!(poll!(&mut waiting).is_pending());
    release(holder).await;
    let (holders, answers) = join(holders, waiting).await;
    for (number, answer) in (SESSIONS - TURNS..).zip(&holders) {
        assert!(is_rotated(answer, number), "{number}");
    }
    answers
}

/// What waits for a turn in vain goes alone in the end.
async fn before_it_goes_alone<T>(rotation: impl Future<Output = T>) -> T {
    timeout(TIMEOUT / 4, rotation).await.expect("a turn")
}

fn is_rotated(answer: &Result<Option<Session>, Error>, number: u8) -> bool {
    matches!(answer, Ok(Some(session)) if session.token_hash == hash(3, number))
}

/// In how many transactions the sessions below `count` were written last.
async fn transactions(database: &TestDatabase, count: u8) -> i64 {
    let sql = format!(
        "SELECT count(DISTINCT xmin::text) FROM sessions WHERE device_name < '{count:02x}'"
    );
    database.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_that_wait_go_in_one_statement() {
    let Some((database, db)) = world().await else {
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
    assert_eq!(database.count(other).await, i64::from(64 + TURNS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_touches_no_index() {
    let Some((database, db)) = world().await else {
        return;
    };
    // As many as their page has room for.
    let rotations: Vec<_> = (0..3).map(rotation).collect();
    together(&database, &db, &rotations).await;
    // The statistics come when they come.
    let hot = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'";
    database.wait_for(hot, i64::from(3 + TURNS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_token_shown_several_times_in_a_group_one_wins() {
    let Some((database, db)) = world().await else {
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
            let session = answer.as_ref().unwrap().as_ref()?;
            assert_eq!(session.token_hash, rotation.new_token_hash);
            let sealed = session.sealed_successor.as_deref();
            assert_eq!(sealed, Some(&rotation.sealed_successor[..]));
            Some(())
        });
        assert_eq!(won.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_rotated_is_refused_and_the_rest_are_rotated() {
    let Some((database, db)) = world().await else {
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
    let Some((database, db)) = world().await else {
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
async fn a_row_that_somebody_holds_holds_up_no_other() {
    let Some((database, db)) = world().await else {
        return;
    };
    let holder = hold(&database, [5]).await;
    let turns = hold(&database, SESSIONS - TURNS..SESSIONS).await;
    let (holders, mine) = (turn_holders(), rotation(5));
    let others = (0..5).map(rotation).collect::<Vec<_>>();
    let (mut holders, mut others) = (all(&db, &holders), all(&db, &others));
    let mut mine = Box::pin(db.rotate(&mine));
    assert!(poll!(&mut holders).is_pending());
    assert!(poll!(&mut others).is_pending());
    assert!(poll!(&mut mine).is_pending());
    release(turns).await;
    let (_, others) = join(holders, others).await;
    for (number, answer) in (0..).zip(&others) {
        assert!(is_rotated(answer, number), "{number}");
    }
    assert!(poll!(&mut mine).is_pending());
    release(holder).await;
    assert!(is_rotated(&mine.await, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_row_gives_the_turn_to_others() {
    let Some((database, db)) = world().await else {
        return;
    };
    let holder = hold(&database, SESSIONS - TURNS..SESSIONS).await;
    let holders = turn_holders();
    let mut holders = all(&db, &holders);
    assert!(poll!(&mut holders).is_pending());
    let next = rotation(0);
    let next = db.rotate(&next);
    tokio::select! {
        answers = &mut holders => panic!("{} answers without the rows", answers.len()),
        answer = before_it_goes_alone(next) => assert!(is_rotated(&answer, 0)),
    }
    release(holder).await;
    for (number, answer) in (SESSIONS - TURNS..).zip(holders.await) {
        assert!(is_rotated(&answer, number), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_went_away_are_left_out_and_hold_up_nobody() {
    let Some((database, db)) = world().await else {
        return;
    };
    let holder = hold(&database, SESSIONS - TURNS..SESSIONS).await;
    let (holders, gone) = (turn_holders(), (0..10).map(rotation).collect::<Vec<_>>());
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
async fn a_caller_in_flight_that_went_away_gives_its_turn_to_those_who_wait() {
    let Some((database, db)) = world().await else {
        return;
    };
    let gone = turn_holders();
    for number in 0..3 {
        let holder = hold(&database, SESSIONS - TURNS..SESSIONS).await;
        let next = rotation(number);
        let (mut gone, mut next) = (all(&db, &gone), Box::pin(db.rotate(&next)));
        assert!(poll!(&mut gone).is_pending());
        assert!(poll!(&mut next).is_pending());
        drop(gone);
        release(holder).await;
        assert!(is_rotated(&before_it_goes_alone(next).await, number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_rotate_the_same_sessions_in_opposite_orders_do_not_deadlock() {
    let Some((database, _)) = world().await else {
        return;
    };
    // Longer than anybody waits here: a deadlock is not broken in silence.
    let patient = "DO $$ BEGIN EXECUTE format(
        'ALTER DATABASE %I SET deadlock_timeout = ''1min''', current_database()); END $$";
    database.execute(patient).await;
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
        let (forth, back) = both.await.expect("nobody waits for ever");
        for (forth, back) in forth.into_iter().zip(back.into_iter().rev()) {
            let won = [forth, back].map(|answer| answer.unwrap().unwrap().is_some());
            assert_ne!(won[0], won[1], "one of two wins");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fit_in_a_group_go_in_the_next() {
    let Some((database, db)) = world().await else {
        return;
    };
    let rotations: Vec<_> = (0..90).map(rotation).collect();
    let answers = together(&database, &db, &rotations).await;
    for (number, answer) in (0..).zip(&answers) {
        assert!(is_rotated(answer, number), "{number}");
    }
    assert_eq!(transactions(&database, 90).await, 2);
}
