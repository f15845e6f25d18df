//! The counters of the database against the rules alone.
//!
//! Attempts that overlap are counted by several counters each, end in any order, and fail or are
//! taken back. After each step every row is what `model::Counter` makes of the same steps, and
//! both agree which attempts are held back, and until when.

use std::{collections::HashMap, sync::Arc, time::Duration};

use auth_service::{
    db::{Admission, Count, Counted, Db, Key},
    model::{Counter, CounterLimits, Raise, Timestamp, Window},
};
use futures::future::join_all;
use proptest::prelude::*;

use crate::harness::{ManualClock, START, TestDatabase, both, build, check_cases, db, soak};

const DAY: Duration = Duration::from_hours(24);
const ACCOUNT: CounterLimits = CounterLimits {
    free: 3,
    window: Some(Window {
        most: 8,
        length: DAY,
    }),
    first_wait: Duration::from_secs(1),
    // Doubling the first wait never gives this value.
    longest_wait: Duration::from_secs(11),
    fade: Duration::from_mins(1),
};
const NETWORK: CounterLimits = CounterLimits {
    free: 4,
    window: None,
    fade: Duration::from_secs(30),
    ..ACCOUNT
};

#[derive(Clone, Debug)]
enum Step {
    /// An attempt at one of two accounts, from one of three networks or from none.
    Begin(u8, Option<u8>),
    /// One of the counted attempts was no failure.
    TakeBack(usize),
    Advance(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let network = prop_oneof![1 => Just(None), 3 => (0..3_u8).prop_map(Some)];
    let time = prop_oneof![
        6 => (0..13_u64).prop_map(Duration::from_secs),
        3 => (0..200_000_000_u64).prop_map(Duration::from_micros),
        1 => Just(Duration::from_mins(11)),
        1 => Just(DAY),
    ];
    prop_oneof![
        8 => (0..2_u8, network).prop_map(|(account, network)| Step::Begin(account, network)),
        4 => (0..5_usize).prop_map(Step::TakeBack),
        5 => time.prop_map(Step::Advance),
    ]
}

/// A counted attempt, as the rules and the database know it.
struct Begun {
    raises: Vec<(Key, Raise)>,
    counted: Counted,
}

struct Play<'a> {
    db: &'a Db,
    database: &'a TestDatabase,
    case: u64,
    now: Timestamp,
    counters: HashMap<Key, Counter>,
    begun: Vec<Begun>,
}

fn key(case: u64, kind: u8, number: u8) -> Key {
    let mut key = [0; 32];
    // Mixes the kinds in the order of keys.
    key[0] = kind.wrapping_mul(89) ^ number.wrapping_mul(57);
    key[1..9].copy_from_slice(&case.to_be_bytes());
    key[9..11].copy_from_slice(&[kind, number]);
    key
}

fn counts(case: u64, account: u8, network: Option<u8>) -> Vec<Count> {
    let count = |kind, number, limits| Count {
        key: key(case, kind, number),
        limits,
    };
    let account = [count(0, account, ACCOUNT)].into_iter();
    account
        .chain(network.map(|network| count(1, network, NETWORK)))
        .collect()
}

type Outcome = Result<(), TestCaseError>;

impl Play<'_> {
    async fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Advance(by) => self.now = self.now + by,
            Step::Begin(account, network) => self.begin(account, network).await?,
            Step::TakeBack(which) if which < self.begun.len() => {
                let begun = self.begun.swap_remove(which);
                self.db.take_back(begun.counted, self.now).await.unwrap();
                for (key, raise) in begun.raises {
                    let counter = self.counters.get_mut(&key).unwrap();
                    *counter = counter.take_back(&raise, self.now);
                }
            }
            Step::TakeBack(_) => {}
        }
        self.check().await
    }

    async fn begin(&mut self, account: u8, network: Option<u8>) -> Outcome {
        let counts = counts(self.case, account, network);
        let of = |key| self.counters.get(key).copied().unwrap_or(Counter::NEW);
        let outcomes = counts
            .iter()
            .map(|count| of(&count.key).count(&count.limits, self.now));
        let outcomes: Vec<_> = outcomes.collect();
        let until = outcomes.iter().filter_map(|outcome| outcome.err()).max();
        match (self.db.count(&counts, self.now).await.unwrap(), until) {
            (Admission::HeldBack { until }, expected) => prop_assert_eq!(Some(until), expected),
            (Admission::Counted(_), Some(_)) => prop_assert!(false, "it slipped through"),
            (Admission::Counted(counted), None) => {
                let keys = counts.iter().map(|count| count.key);
                let raises: Vec<_> = keys.zip(outcomes.into_iter().flatten()).collect();
                for (key, raise) in &raises {
                    self.counters.insert(*key, raise.after);
                }
                self.begun.push(Begun { raises, counted });
            }
        }
        Ok(())
    }

    /// Each row is the counter. Without a row the counter is a new one.
    async fn check(&mut self) -> Outcome {
        for (key, counter) in &mut self.counters {
            let Counter {
                free_from,
                failed_at,
                window_failures: day_failures,
                window_ends_at: day_ends_at,
            } = &*counter;
            let [free_from, failed_at, day_ends_at] =
                [free_from, failed_at, day_ends_at].map(|time| time.as_micros());
            let sql = format!(
                "SELECT CAST(free_from AS text) || ' ' || failed_at || ' ' || day_failures || ' ' \
                 || day_ends_at FROM login_throttle WHERE key_hash = {}",
                self.database.bytes(key)
            );
            let expected = format!("{free_from} {failed_at} {day_failures} {day_ends_at}");
            match self.database.texts(&sql).await.into_iter().flatten().next() {
                Some(row) => prop_assert_eq!(row, expected),
                None => {
                    prop_assert!(counter.is_new(self.now), "{expected} was deleted");
                    *counter = Counter::NEW;
                }
            }
        }
        Ok(())
    }
}

async fn play(
    db: &Db,
    database: &TestDatabase,
    case: u64,
    steps: impl IntoIterator<Item = Step>,
) -> Outcome {
    let mut play = Play {
        db,
        database,
        case,
        now: START,
        counters: HashMap::new(),
        begun: Vec::new(),
    };
    for step in steps {
        play.take(step).await?;
    }
    Ok(())
}

both! {
    async fn the_rows_are_those_of_the_rules(database: TestDatabase) {
        let clock = Arc::new(ManualClock::new(START));
        build(&database, clock, &[]).await.expect("migrates");
        let db = db(&database, Duration::from_secs(10));
        let case = std::cell::Cell::new(0);
        let steps = prop::collection::vec(step(), 1..60);
        check_cases(soak(20, 1000), &steps, async |steps| {
            case.set(case.get() + 1);
            play(&db, &database, case.get(), steps).await
        });
    }

    async fn a_count_that_is_taken_back_late_does_not_come_back(database: TestDatabase) {
        let clock = Arc::new(ManualClock::new(START));
        build(&database, clock, &[]).await.expect("migrates");
        let db = db(&database, Duration::from_secs(10));
        let steps = [
            Step::Begin(0, Some(0)),
            Step::Begin(1, Some(0)),
            Step::Advance(NETWORK.fade * 2),
            Step::TakeBack(0),
            Step::TakeBack(0),
        ];
        play(&db, &database, 0, steps).await.expect("as the rules say");
    }

    async fn of_many_attempts_at_once_no_more_than_the_free_ones_are_counted(database: TestDatabase) {
        let clock = Arc::new(ManualClock::new(START));
        build(&database, clock, &[]).await.expect("migrates");
        let db = db(&database, Duration::from_secs(30));
        for round in 0..4 {
            // All share the network; half of them share an account.
            let attempts = (0..40_u8).map(|n| {
                let account = if n % 2 == 0 { 100 } else { n };
                let (db, counts) = (db.clone(), counts(round, account, Some(0)));
                tokio::spawn(async move { db.count(&counts, START).await.unwrap() })
            });
            let admissions = join_all(attempts).await.into_iter().map(Result::unwrap);
            let counted: Vec<_> = admissions
                .filter_map(|admission| match admission {
                    Admission::Counted(counted) => Some(counted),
                    Admission::HeldBack { .. } => None,
                })
                .collect();
            // Others may have been refused because of attempts that were refused later.
            assert!((1..=4).contains(&counted.len()), "the free ones of the network");
            let back = counted.into_iter().map(|counted| db.take_back(counted, START));
            for taken_back in join_all(back).await {
                taken_back.unwrap();
            }
            let left = "SELECT count(*) FROM login_throttle WHERE day_failures > 0 OR free_from > ";
            let left = format!("{left}{}", START.as_micros());
            assert_eq!(database.count(&left).await, 0, "nothing is left");
        }
    }
}
