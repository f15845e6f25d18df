//! The counters of the throttle against a small model.
//!
//! The model has numbers where the database has times. Attempts at several accounts come from
//! several addresses and end in any order. Model and database always agree which attempts are
//! admitted, and how long the others wait.

use std::{collections::HashMap, time::Duration};

use auth_service::{
    db::{Admission, Attempt, Count, Counted, Db, Key, Settlement},
    model::{ThrottleLimits, Timestamp},
};
use proptest::prelude::*;

use crate::harness::{ManualClock, START, TestDatabase, both, build, check_cases, db, soak};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const LIMITS: ThrottleLimits = ThrottleLimits {
    free_per_pair: 2,
    free_per_account: 3,
    free_per_address: 4,
    registrations_per_address: 1,
    daily_per_account: 8,
    first_wait: SECOND,
    // Doubling the first wait never gives this value.
    longest_wait: Duration::from_secs(11),
    fade: Duration::from_mins(1),
    known_for: Duration::from_mins(10),
};

#[derive(Clone, Debug)]
enum Step {
    /// An attempt at one of two accounts, from one of three addresses or without one.
    Begin(u8, Option<u8>),
    /// One of the admitted attempts ends.
    End(usize, End),
    Advance(Duration),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Wrong,
    Right,
    TakenBack,
}

fn step() -> impl Strategy<Value = Step> {
    let address = prop_oneof![1 => Just(None), 3 => (0..3_u8).prop_map(Some)];
    let end = prop_oneof![6 => Just(End::Wrong), 1 => Just(End::Right), 1 => Just(End::TakenBack)];
    let time = prop_oneof![
        6 => (0..13_u64).prop_map(Duration::from_secs),
        3 => (0..200_000_000_u64).prop_map(Duration::from_micros),
        1 => Just(Duration::from_mins(11)),
        1 => Just(DAY),
    ];
    prop_oneof![
        8 => (0..2_u8, address).prop_map(|(account, address)| Step::Begin(account, address)),
        5 => (0..5_usize, end).prop_map(|(which, end)| Step::End(which, end)),
        5 => time.prop_map(Step::Advance),
    ]
}

/// A counter, as the README describes it.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    failures: u32,
    next_fades: i64,
    blocked_until: i64,
    day_failures: u32,
    day_ends: i64,
    known_until: i64,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

impl Number {
    fn fade(&mut self, now: i64) {
        while self.failures > 0 && self.next_fades <= now {
            self.failures -= 1;
            self.next_fades += micros(LIMITS.fade);
        }
    }

    fn held_until(&self, now: i64) -> Option<i64> {
        let day = self.day_failures >= LIMITS.daily_per_account;
        let day = if day { self.day_ends } else { 0 };
        Some(self.blocked_until.max(day)).filter(|until| *until > now)
    }

    fn fail(&mut self, free: u32, is_account: bool, now: i64) {
        // The waits are 1, 2, 4, 8 and 11 seconds.
        let most = free + 4;
        if self.failures == 0 || self.failures == most {
            self.next_fades = now + micros(LIMITS.fade);
        }
        self.failures = most.min(self.failures + 1);
        if let Some(beyond) = self.failures.checked_sub(free) {
            let wait = LIMITS
                .longest_wait
                .min(LIMITS.first_wait * 2_u32.pow(beyond));
            self.blocked_until = now + micros(wait);
        }
        if is_account {
            if self.day_ends <= now {
                (self.day_failures, self.day_ends) = (0, now + micros(DAY));
            }
            self.day_failures += 1;
        }
    }

    fn take_back(&mut self, block: i64, is_account: bool) {
        self.failures = self.failures.saturating_sub(1);
        if self.blocked_until == block {
            self.blocked_until = 0;
        }
        self.day_failures = self.day_failures.saturating_sub(u32::from(is_account));
    }
}

/// An admitted attempt, as model and database know it.
struct Admitted {
    account: u8,
    address: Option<u8>,
    at: Timestamp,
    raised: Vec<(Key, i64)>,
    counted: Counted,
}

struct Play<'a> {
    db: &'a Db,
    case: u64,
    now: Timestamp,
    numbers: HashMap<Key, Number>,
    admitted: Vec<Admitted>,
}

fn key(case: u64, kind: u8, account: u8, address: Option<u8>) -> Key {
    let mut key = [0; 32];
    // Mixes the kinds in the order of keys.
    key[0] =
        kind.wrapping_mul(89) ^ account.wrapping_mul(57) ^ address.unwrap_or(7).wrapping_mul(31);
    key[1..9].copy_from_slice(&case.to_be_bytes());
    key[9..12].copy_from_slice(&[kind, account, address.unwrap_or(u8::MAX)]);
    key
}

type Outcome = Result<(), TestCaseError>;

impl Play<'_> {
    fn attempt(&self, account: u8, address: Option<u8>, now: Timestamp) -> Attempt<'static> {
        let count = |kind, account, address, free| Count {
            key: key(self.case, kind, account, address),
            free,
        };
        Attempt {
            email: None,
            account: Some(count(0, account, None, LIMITS.free_per_account)),
            pair: Some(count(1, account, address, LIMITS.free_per_pair)),
            address: address.map(|_| count(2, 0, address, LIMITS.free_per_address)),
            now,
            limits: &LIMITS,
        }
    }

    async fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Advance(by) => self.now = self.now + by,
            Step::Begin(account, address) => self.begin(account, address).await?,
            Step::End(which, end) if which < self.admitted.len() => {
                let attempt = self.admitted.swap_remove(which);
                self.end(attempt, end).await;
            }
            Step::End(..) => {}
        }
        Ok(())
    }

    async fn begin(&mut self, account: u8, address: Option<u8>) -> Outcome {
        let attempt = self.attempt(account, address, self.now);
        let now = self.now.as_micros();
        let counts = [attempt.account, attempt.pair, attempt.address];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        for count in &counts {
            self.numbers.entry(count.key).or_default().fade(now);
        }
        let pair = self.numbers[&attempt.pair.unwrap().key];
        let passes = |count: &Count| attempt.account == Some(*count) && pair.known_until > now;
        let held = |count: &Count| self.numbers[&count.key].held_until(now);
        let holding = counts.iter().filter(|count| !passes(count));
        let until = holding.filter_map(held).max();
        let free: Vec<_> = counts
            .iter()
            .filter(|count| held(count).is_none())
            .collect();

        match (self.db.admit(&attempt).await.unwrap(), until) {
            (Admission::Refused { until }, Some(expected)) => {
                prop_assert_eq!(until.as_micros(), expected);
            }
            (Admission::Admitted(counted, _), None) => {
                let mut raised = Vec::new();
                for count in free {
                    let number = self.numbers.get_mut(&count.key).unwrap();
                    number.fail(count.free, attempt.account == Some(*count), now);
                    raised.push((count.key, number.blocked_until));
                }
                let at = self.now;
                self.admitted.push(Admitted {
                    account,
                    address,
                    at,
                    raised,
                    counted,
                });
            }
            (Admission::Admitted(..), Some(_)) => prop_assert!(false, "it slipped through"),
            (Admission::Refused { .. }, None) => prop_assert!(false, "it was held back"),
        }
        Ok(())
    }

    async fn end(&mut self, ended: Admitted, end: End) {
        let attempt = self.attempt(ended.account, ended.address, ended.at);
        let known_until = ended.at + LIMITS.known_for;
        let settlement = match end {
            End::Wrong => return,
            End::Right => Settlement::Succeeded { known_until },
            End::TakenBack => Settlement::TakenBack,
        };
        self.db
            .settle(&attempt, &ended.counted, settlement)
            .await
            .unwrap();

        let account = attempt.account.unwrap().key;
        for (key, block) in ended.raised {
            self.numbers
                .get_mut(&key)
                .unwrap()
                .take_back(block, key == account);
        }
        if settlement != Settlement::TakenBack {
            let pair = attempt.pair.unwrap().key;
            for key in [account, pair] {
                let number = self.numbers.get_mut(&key).unwrap();
                (number.failures, number.blocked_until) = (0, 0);
            }
            let pair = self.numbers.get_mut(&pair).unwrap();
            if ended.address.is_some() {
                pair.known_until = pair.known_until.max(known_until.as_micros());
            }
        }
    }
}

both! {
    async fn the_counts_are_those_of_the_model(database: TestDatabase) {
        let clock = std::sync::Arc::new(ManualClock::new(START));
        build(&database, clock, &[]).await.expect("migrates");
        let db = db(&database, Duration::from_secs(10));
        let case = std::cell::Cell::new(0);
        let steps = prop::collection::vec(step(), 1..60);
        check_cases(soak(40, 2000), &steps, async |steps| {
            case.set(case.get() + 1);
            let mut play = Play {
                db: &db,
                case: case.get(),
                now: START,
                numbers: HashMap::new(),
                admitted: Vec::new(),
            };
            for step in steps {
                play.take(step).await?;
            }
            Ok(())
        });
    }
}
