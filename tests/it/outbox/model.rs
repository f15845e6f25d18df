//! The guarantee about events, while everything fails that can fail.
//!
//! The real [`Db`](auth_service::db::Db) and real [`Poller`](auth_service::outbox::Poller)s
//! run on a real database. Only the broker is simulated: a random script says what it stores
//! and acknowledges. Writers commit late, roll back and crash. Pollers lose their lease and die
//! at any step, so several run at the same time. Calls to the broker end without a clear result,
//! and records of a dead call may arrive much later. In all cases [`Published::check`] must
//! hold, which quotes the guarantee.
//!
//! A failure prints its seed and the shortest script that leads to it.

mod broker;
mod numbers;
mod world;

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use tokio::sync::Mutex;

use self::{broker::Fate, numbers::Numbers, world::World};
use crate::harness::{Backend, Published, TestDatabase, check_cases, soak};

/// One step of the script. A step that is not possible at that moment is skipped.
#[derive(Clone, Debug)]
enum Step {
    /// A user registers, or a session of the user ends.
    Write { user: usize, end: End },
    /// A late transaction ends.
    Settle(usize),
    /// A poller starts a tick, which runs until its call to the broker, or to its end.
    Tick(usize),
    /// A poller sends the next few records of a partition.
    Send {
        poller: usize,
        partition: usize,
        records: usize,
        fate: Fate,
    },
    /// The broker's answers reach the poller, which finishes its tick.
    Answer(usize),
    /// A poller dies, up to a few steps after the broker's answers.
    Crash { poller: usize, steps: usize },
    /// The lease ends, although its holder does not expect it.
    LoseLease,
    /// Records that a call sent long ago arrive now.
    Arrive(usize),
    /// The operator requeues all that is parked.
    Requeue,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    RollBack,
    /// On Postgres at a later step; on SQLite, which has one writer, at once.
    CommitLate,
    RollBackLate,
    CrashLate,
}

/// Where the row ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    Plain,
    /// Each connection draws a hundred in advance, as on YugabyteDB.
    Cached,
}

const USERS: usize = 4;
const POLLERS: usize = 3;
const PARTITIONS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        4 => Just(End::Commit),
        1 => Just(End::RollBack),
        3 => Just(End::CommitLate),
        1 => Just(End::RollBackLate),
        1 => Just(End::CrashLate),
    ];
    let fate = prop_oneof![
        4 => Just(Fate::Acknowledged),
        1 => Just(Fate::StoredTwice),
        2 => Just(Fate::ReplyLost),
        1 => Just(Fate::NeverArrives),
        2 => Just(Fate::ArrivesLater),
        1 => Just(Fate::Refused),
    ];
    prop_oneof![
        8 => (0..USERS, end).prop_map(|(user, end)| Step::Write { user, end }),
        3 => (0..USERS).prop_map(Step::Settle),
        6 => (0..POLLERS).prop_map(Step::Tick),
        12 => (0..POLLERS, 0..PARTITIONS, 1_usize..4, fate).prop_map(
            |(poller, partition, records, fate)| Step::Send { poller, partition, records, fate }
        ),
        5 => (0..POLLERS).prop_map(Step::Answer),
        2 => (0..POLLERS, 0_usize..8).prop_map(|(poller, steps)| Step::Crash { poller, steps }),
        4 => Just(Step::LoseLease),
        2 => (0_usize..4).prop_map(Step::Arrive),
        1 => Just(Step::Requeue),
    ]
}

fn check(backend: Backend, cases: u32, sequence: Sequence) {
    let numbers = Mutex::new(Numbers::default());
    let cases = soak(cases, 50 * cases);
    check_cases(cases, &vec(step(), 20..100), async |steps| {
        let Some(database) = TestDatabase::create(backend).await else {
            return Ok(());
        };
        let mut numbers = numbers.lock().await;
        let played = play(database, &steps, sequence, &mut numbers).await;
        played.map_err(TestCaseError::fail)
    });
    let numbers = numbers.into_inner();
    eprintln!("{backend:?}: {numbers:?}");
    numbers.assert_that_much_happened(backend);
    assert!(
        sequence == Sequence::Plain || numbers.reordered > 0,
        "{numbers:?}"
    );
}

async fn play(
    database: TestDatabase,
    steps: &[Step],
    sequence: Sequence,
    numbers: &mut Numbers,
) -> Result<(), String> {
    let mut world = World::new(database).await;
    if sequence == Sequence::Cached {
        let cached = "ALTER SEQUENCE outbox_events_id_seq CACHE 100";
        world.database.execute(cached).await;
    }
    for step in steps {
        world.step(step).await;
    }
    world.calm_down().await;
    let published = Published(world.broker.copies());
    let duplicates = published.check(&world.database.versions().await, &[])?;
    world.check_answers().await?;
    numbers.add(&world.numbers, published.0.len(), duplicates);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarantee_holds_whatever_happens_on_sqlite() {
    check(Backend::Sqlite, 60, Sequence::Plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarantee_holds_whatever_happens_on_postgres() {
    check(Backend::Postgres, 25, Sequence::Plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarantee_holds_whatever_happens_on_postgres_with_ids_in_any_order() {
    check(Backend::Postgres, 25, Sequence::Cached);
}
