//! The guarantee about events, against a world that does its worst.
//!
//! The real [`Db`](auth_service::db::Db) and real [`Poller`](auth_service::outbox::Poller)s
//! run on a real database. Only the broker is played: it stores and acknowledges what a
//! random script says. Writers commit late, roll back and crash; pollers run at the same
//! time, because leases are lost at any step, and die at any step; calls to the broker end
//! ambiguously, and what a dead call sent may arrive when everybody has forgotten it.
//! Whatever happened, [`Published::check`] must hold: its text is the guarantee's.
//!
//! A failure prints its seed, and the shortest script that leads to it.

mod broker;
mod world;

use std::cell::RefCell;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;

use self::{
    broker::Fate,
    world::{Numbers, World},
};
use crate::harness::{Backend, Published, Random, TestDatabase, soak};

/// One thing that happens. What is not possible at that moment does not happen.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody registers, or an account's session is ended.
    Write { user: usize, end: End },
    /// A transaction that was about to end ends.
    Settle(usize),
    /// A poller starts a tick, which gets as far as its call to the broker, if any.
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
    /// A poller dies, after it has taken a few more steps from the answers on.
    Crash { poller: usize, steps: usize },
    /// The lease ends, however sure its holder is that it does not.
    LoseLease,
    /// What a call sent long ago arrives now.
    Arrive(usize),
    /// The operator requeues all that is parked.
    Requeue,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    RollBack,
    /// On Postgres: when it is told to; on SQLite, which has one writer, at once.
    CommitLate,
    RollBackLate,
    CrashLate,
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

fn check(backend: Backend, cases: u32) {
    let runtime = Runtime::new().expect("a runtime");
    let config = Config {
        cases: soak(cases, 50 * cases),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &Random::new().bytes(32));
    let mut runner = TestRunner::new_with_rng(config, random);
    let numbers = RefCell::new(Numbers::default());
    let result = runner.run(&vec(step(), 20..100), |steps| {
        let Some(database) = runtime.block_on(TestDatabase::create(backend)) else {
            return Ok(()); // said aloud
        };
        runtime
            .block_on(play(database, &steps, &mut numbers.borrow_mut()))
            .map_err(TestCaseError::fail)
    });
    if let Err(failed) = result {
        panic!("{failed}");
    }
    let numbers = numbers.into_inner();
    eprintln!("{backend:?}: {numbers:?}");
    numbers.assert_that_much_happened(backend);
}

async fn play(database: TestDatabase, steps: &[Step], numbers: &mut Numbers) -> Result<(), String> {
    let mut world = World::new(database).await;
    for step in steps {
        world.step(step).await;
    }
    world.calm_down().await;
    let published = Published(world.broker.copies());
    let duplicates = published.check(&world.database.versions().await, &[])?;
    world.check_answers().await?;
    numbers.add(&world, published.0.len(), duplicates);
    Ok(())
}

#[test]
fn the_guarantee_holds_whatever_happens_on_sqlite() {
    check(Backend::Sqlite, 60);
}

#[test]
fn the_guarantee_holds_whatever_happens_on_postgres() {
    check(Backend::Postgres, 25);
}
