//! A simulated machine against the waits that the queue expects. Each lane computes one round in
//! each step of the time, so the expected wait is a number of steps.
//!
//! While a queue is only emptied, the expected wait of each job is exact. Jobs that come or leave
//! later change it:
//!
//! - Others that come later take their quarter again and again, so a known device waits at most
//!   a third longer.
//! - Known devices that come later are served before another caller, so it also waits for their
//!   rounds, on all lanes.
//! - Jobs are not divided. Each class gets its share of the rounds with a difference of at most
//!   four jobs, and of twice as many if other jobs left. A lane may also be busy with the end of
//!   a job that the expected wait does not include.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// The rounds of the longest job.
const LONGEST: u64 = 1 << 6;
/// How far the shares of the classes may differ, in rounds of known devices.
const UNEVEN: u64 = 4 * LONGEST;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A job of a known device of this account, or of another caller, with its cost.
    Arrive(Option<u8>, u32),
    /// One of the jobs that wait or run is cancelled.
    Leave(prop::sample::Index),
    Wait(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let known = prop_oneof![1 => 0..3_u8, 3 => any::<u8>()].prop_map(Some);
    let caller = prop_oneof![known, Just(None)];
    let arrive = (caller, 4..=6_u32).prop_map(|(caller, cost)| Act::Arrive(caller, cost));
    let leave = any::<prop::sample::Index>().prop_map(Act::Leave);
    prop_oneof![16 => arrive, 2 => leave, 1 => (0..60_u8).prop_map(Act::Wait)]
}

/// A job that waits, and its expected wait.
struct Expected {
    class: Class,
    /// `None` for another caller than a known device.
    account: Option<u8>,
    at: u64,
    wait: u64,
    began: Began,
}

struct Machine {
    queue: Queue,
    now: u64,
    waiting: BTreeMap<u64, Expected>,
    /// The id and the rounds left of each job, by thread.
    running: Vec<Vec<(u64, u32)>>,
    lanes: usize,
    known_begun: Vec<(u64, u64)>,
    /// The rounds that each class got beyond its share while the other one waited.
    known_ahead: u64,
    others_ahead: u64,
}

impl Machine {
    fn new(threads: usize, lanes: usize, max_wait: Duration) -> Self {
        let times = RoundTimes::new(vec![ROUND; lanes]);
        Self {
            queue: Queue::new(NonZeroUsize::new(threads).unwrap(), max_wait, times),
            now: 0,
            waiting: BTreeMap::new(),
            running: vec![Vec::new(); threads],
            lanes,
            known_begun: Vec::new(),
            known_ahead: 0,
            others_ahead: 0,
        }
    }

    fn play(&mut self, acts: Vec<Act>) {
        for act in acts {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Arrive(caller, cost) => drop(self.arrive(caller, cost)),
            Act::Leave(which) => self.leave(which),
            Act::Wait(steps) => (0..steps).for_each(|_| self.step()),
        }
    }

    fn arrive(&mut self, account: Option<u8>, cost: u32) -> Option<u64> {
        let class = self.class_of(account);
        let wait = self.queue.expected_wait(1 << cost, class);
        let longest = match class {
            Class::KnownDevices => self.queue.max_wait,
            Class::Others => self.queue.max_wait * 3 / 4,
        };
        let purpose = account.map_or(OTHER, |account| known(account.into()));
        let admitted = self.queue.ask(cost, purpose, LONG);
        assert_eq!(admitted.is_ok(), wait <= longest);
        let id = admitted.ok()?;
        let expected = Expected {
            class,
            account,
            at: self.now,
            wait: wait.as_millis().try_into().unwrap(),
            began: self.queue.waiting.last_began(class),
        };
        self.waiting.insert(id, expected);
        Some(id)
    }

    /// Two jobs of an account wait among those of known devices, and further ones elsewhere.
    fn class_of(&self, account: Option<u8>) -> Class {
        let those = self
            .waiting
            .values()
            .filter(|job| job.class == Class::KnownDevices && job.account == account);
        match account {
            Some(_) if those.count() < 2 => Class::KnownDevices,
            _ => Class::Others,
        }
    }

    fn leave(&mut self, which: prop::sample::Index) {
        let running = self.running.iter().flatten().map(|(id, _)| *id);
        let ids: Vec<_> = self.waiting.keys().copied().chain(running).collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[which.index(ids.len())];
        self.queue.remove(id);
        if let Some(expected) = self.waiting.remove(&id) {
            assert!(!expected.began.get());
        }
        for thread in 0..self.running.len() {
            self.running[thread].retain(|(running, _)| *running != id);
            self.report(thread);
        }
    }

    fn step(&mut self) {
        (0..self.running.len()).for_each(|thread| self.begin(thread));
        let busy = self.running.iter().map(Vec::len).sum::<usize>();
        let all = self.running.len() * self.lanes;
        assert!(self.waiting.is_empty() || busy == all, "a lane is free");
        assert_eq!(self.queue.in_flight(), busy + self.waiting.len());
        self.now += 1;
        for thread in 0..self.running.len() {
            for (_, left) in &mut self.running[thread] {
                *left -= 1;
            }
            self.running[thread].retain(|(_, left)| *left > 0);
            self.report(thread);
        }
    }

    fn report(&mut self, thread: usize) {
        let left = self.running[thread].iter().map(|(_, left)| *left);
        self.queue.report(thread, left);
    }

    fn begin(&mut self, thread: usize) {
        for job in self.queue.take(thread) {
            let id = u128::from_be_bytes(job.work.salt).try_into().unwrap();
            self.check_shares(id, job.work.rounds().into());
            let expected = self.waiting.remove(&id).unwrap();
            assert!(expected.began.get());
            self.check_wait(id, &expected);
            self.running[thread].push((id, job.work.rounds()));
        }
        assert!(self.running[thread].len() <= self.lanes);
    }

    /// The first of its class is next, and no class gets more than its share while the other
    /// one waits.
    fn check_shares(&mut self, id: u64, rounds: u64) {
        let first = |class| {
            let mut those = self.waiting.iter().filter(|(_, job)| job.class == class);
            those.next().map(|(id, _)| *id)
        };
        let (known, other) = (first(Class::KnownDevices), first(Class::Others));
        if known == Some(id) {
            self.known_begun.push((id, rounds));
            self.known_ahead += rounds;
            self.others_ahead = self.others_ahead.saturating_sub(rounds);
        } else {
            assert_eq!(other, Some(id));
            self.known_ahead = self.known_ahead.saturating_sub(3 * rounds);
            self.others_ahead += 3 * rounds;
        }
        self.known_ahead *= u64::from(other.is_some());
        self.others_ahead *= u64::from(known.is_some());
        assert!(self.known_ahead <= UNEVEN, "others get no quarter");
        assert!(
            self.others_ahead <= UNEVEN,
            "others get more than a quarter"
        );
    }

    fn check_wait(&self, id: u64, expected: &Expected) {
        let waited = self.now - expected.at;
        let lanes = (self.running.len() * self.lanes) as u64;
        let tolerance = 2 * LONGEST + 2 * UNEVEN / lanes;
        let longest = match expected.class {
            Class::KnownDevices => expected.wait * 4 / 3,
            Class::Others => {
                let later = self.known_begun.iter().filter(|(known, _)| *known > id);
                let rounds: u64 = later.map(|(_, rounds)| rounds).sum();
                expected.wait + rounds / lanes
            }
        };
        assert!(
            waited <= longest + tolerance,
            "{waited} steps, not {longest}"
        );
    }

    /// Runs until nothing waits or runs.
    fn drain(&mut self) {
        while self.queue.in_flight() > 0 {
            self.step();
        }
        assert!(self.waiting.is_empty(), "a job was lost");
    }
}

fn machine() -> impl Strategy<Value = Machine> {
    let max_wait = prop_oneof![Just(LONG), (0..400_u32).prop_map(|steps| steps * ROUND)];
    let parts = (1..=3_usize, 1..=LANES, max_wait);
    parts.prop_map(|(threads, lanes, max_wait)| Machine::new(threads, lanes, max_wait))
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (threads, wait) = (self.running.len(), self.queue.max_wait);
        write!(f, "{threads} threads, {} lanes, {wait:?}", self.lanes)
    }
}

proptest! {
    #[test]
    fn every_job_begins_in_order_and_within_its_expected_wait(
        mut machine in machine(), acts in vec(act(), 0..200),
    ) {
        machine.play(acts);
        machine.drain();
    }

    #[test]
    fn a_job_begins_exactly_when_expected_if_no_other_comes_or_leaves(
        mut machine in machine(), acts in vec(act(), 0..200), last in act(),
    ) {
        machine.play(acts);
        let Act::Arrive(caller, cost) = last else { return Ok(()) };
        if let Some(id) = machine.arrive(caller, cost) {
            let begins_at = machine.now + machine.waiting[&id].wait;
            while machine.now < begins_at {
                machine.step();
            }
            prop_assert!(machine.waiting.contains_key(&id), "it is too early");
            machine.step();
            prop_assert!(!machine.waiting.contains_key(&id), "it is late");
        }
    }
}
