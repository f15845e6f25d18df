mod model;

use std::iter::once;

use bcrypt_lanes::{Key, LANES, Work};
use tokio::sync::oneshot;

use super::*;
use crate::{
    model::UserId,
    password::{Began, metrics::Metrics},
};

const OTHER: Purpose = Purpose::Answer(Priority::Other);
const ROUND: Duration = Duration::from_millis(1);
/// A round of a single lane takes half the time.
const ALONE: Duration = Duration::from_micros(500);
const LONG: Duration = Duration::from_hours(1);

fn queue(threads: usize, max_wait: Duration) -> Queue {
    let mut times = vec![ROUND; LANES];
    times[0] = ALONE;
    let threads = NonZeroUsize::new(threads).unwrap();
    Queue::new(threads, max_wait, RoundTimes::new(times))
}

/// A queue of one thread, with `2^cost` rounds left in each lane.
fn busy(max_wait: Duration, cost: u32) -> Queue {
    let mut queue = queue(1, max_wait);
    for _ in 0..LANES {
        queue.join(cost);
    }
    assert_eq!(queue.take(0).len(), LANES);
    queue
}

/// The purpose of a job of a known device of this account.
fn known(account: u64) -> Purpose {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&account.to_be_bytes());
    Purpose::Answer(Priority::KnownDevice(UserId::from_bytes(id)))
}

/// The rounds left in the lanes of a thread: so many in each of the first ones.
fn left<const N: usize>(first: [u32; N]) -> impl Iterator<Item = u32> {
    first.into_iter().chain(repeat_n(90, LANES - N))
}

impl Queue {
    fn ask(&mut self, cost: u32, purpose: Purpose, left: Duration) -> Result<u64, Duration> {
        let salt = u128::from(self.waiting.next_id()).to_be_bytes();
        let work = Work::new(Key::new(b"x"), cost, salt);
        let job = Job {
            work,
            purpose,
            began: Began::default(),
            reply: (oneshot::channel().0, Metrics::unregistered().waiting()),
        };
        match self.admit(job, Some(left)).1 {
            Ok(id) => Ok(id),
            Err(HashError::Overloaded { retry_after }) => Err(retry_after),
            Err(HashError::Stopped) => panic!("the queue does not stop"),
        }
    }

    fn join(&mut self, cost: u32) -> u64 {
        self.ask(cost, OTHER, LONG).unwrap()
    }

    /// A job of an account of its own.
    fn join_known(&mut self, cost: u32) -> u64 {
        self.ask(cost, self.new_known(), LONG).unwrap()
    }

    fn new_known(&self) -> Purpose {
        known(self.waiting.next_id())
    }

    fn ids(&mut self, thread: usize) -> Vec<u64> {
        let id = |job: Job| u128::from_be_bytes(job.work.salt).try_into().unwrap();
        self.take(thread).into_iter().map(id).collect()
    }

    /// Jobs begin when others end, one at a time.
    fn next_ids(&mut self, count: usize) -> Vec<u64> {
        let next = |_| {
            self.report(0, repeat_n(1, LANES - 1));
            self.ids(0)
        };
        (0..count).flat_map(next).collect()
    }

    /// The wait of a job of 16 rounds.
    fn wait(&self, class: Class) -> Duration {
        self.expected_wait(16, class)
    }
}

#[test]
fn no_job_waits_while_a_lane_is_free() {
    let mut queue = queue(2, Duration::ZERO);
    for _ in 0..2 * LANES {
        assert_eq!(queue.wait(Class::Others), Duration::ZERO);
        queue.ask(16, OTHER, Duration::ZERO).unwrap();
    }
    assert_eq!(
        queue.wait(Class::KnownDevices),
        Duration::ZERO,
        "it is the next"
    );
    assert_eq!(queue.wait(Class::Others), ROUND * (1 << 16));
}

#[test]
fn the_wait_is_the_rest_of_what_runs_and_all_that_is_queued() {
    let mut queue = busy(LONG, 6);
    assert_eq!(queue.wait(Class::Others), 64 * ROUND);
    queue.report(0, left([60, 50, 40, 30, 20, 10]));
    assert_eq!(queue.wait(Class::Others), 10 * ROUND);
    // Each job takes the lane that is free first: after 10, 20, 30 and then after 26 rounds.
    queue.join(4);
    assert_eq!(queue.wait(Class::Others), 20 * ROUND);
    queue.join(5);
    assert_eq!(queue.wait(Class::Others), 26 * ROUND);
}

#[test]
fn a_job_that_would_wait_too_long_is_refused() {
    let mut queue = busy(64 * ROUND, 6);
    for _ in 0..LANES {
        queue.join_known(6);
    }
    assert_eq!(
        queue.ask(4, queue.new_known(), LONG),
        Err((128 + 16) * ROUND)
    );
    queue.report(0, once(0).chain(repeat_n(64, LANES - 1)));
    queue.join_known(4);
}

#[test]
fn others_fill_three_quarters_of_the_wait_and_known_devices_all_of_it() {
    let mut queue = busy(64 * ROUND, 6);
    queue.report(0, repeat_n(49, LANES));
    assert_eq!(queue.ask(4, OTHER, LONG), Err((49 + 16) * ROUND));
    queue.join_known(4);
    queue.report(0, repeat_n(48, LANES));
    queue.join(4);
    queue.report(0, repeat_n(64, LANES));
    queue.join_known(4);
    queue.report(0, repeat_n(65, LANES));
    assert_eq!(
        queue.ask(4, queue.new_known(), LONG),
        Err((65 + 16) * ROUND)
    );
}

#[test]
fn a_job_that_could_not_be_done_before_its_deadline_is_refused() {
    let mut queue = busy(LONG, 6);
    let (wait, own) = (64 * ROUND, 16 * ROUND);
    let too_short = wait + own.saturating_sub(Duration::from_nanos(1));
    for purpose in [known(0), OTHER] {
        assert_eq!(queue.ask(4, purpose, too_short), Err(wait + own));
        queue.ask(4, purpose, wait + own).unwrap();
    }
}

#[test]
fn a_removed_job_is_not_waited_for() {
    let mut queue = busy(LONG, 4);
    let ids: Vec<_> = (0..LANES).map(|_| queue.join(5)).collect();
    assert_eq!(queue.wait(Class::Others), 48 * ROUND);
    queue.remove(ids[2]);
    assert_eq!(queue.wait(Class::Others), 16 * ROUND);
    queue.report(0, [].into_iter());
    let (before, after) = (&ids[..2], &ids[3..]);
    assert_eq!(queue.ids(0), [before, after].concat());
}

#[test]
fn within_a_class_first_come_is_first_served() {
    for join in [Queue::join, Queue::join_known] {
        let mut queue = busy(LONG, 4);
        let ids: Vec<_> = (0..4).map(|_| join(&mut queue, 4)).collect();
        assert!(queue.ids(0).is_empty());
        queue.report(0, [16; LANES - 1].into_iter());
        assert_eq!(queue.ids(0), ids[..1]);
        queue.report(0, [16; LANES - 3].into_iter());
        assert_eq!(queue.ids(0), ids[1..]);
    }
}

#[test]
fn known_devices_go_first_and_others_get_a_quarter() {
    let mut queue = busy(LONG, 4);
    let [o1, o2] = [(); 2].map(|()| queue.join(4));
    let [k1, k2, k3, k4, k5] = [(); 5].map(|()| queue.join_known(4));
    assert_eq!(queue.next_ids(7), [k1, k2, k3, o1, k4, k5, o2]);
}

#[test]
fn a_third_job_of_an_account_waits_among_the_others() {
    let mut queue = busy(LONG, 4);
    let o1 = queue.join(4);
    let mut of_ana = [(); 4].map(|()| queue.ask(4, known(1), LONG).unwrap());
    let of_ben = queue.ask(4, known(2), LONG).unwrap();
    let [a1, a2, a3, a4] = of_ana;
    assert_eq!(queue.next_ids(4), [a1, a2, of_ben, o1]);
    // Only jobs that wait are counted.
    of_ana = [(); 4].map(|()| queue.ask(4, known(1), LONG).unwrap());
    queue.remove(of_ana[0]);
    let instead = queue.ask(4, known(1), LONG).unwrap();
    let [_, a5, a6, a7] = of_ana;
    assert_eq!(queue.next_ids(6), [a5, instead, a3, a4, a6, a7]);
}

#[test]
fn one_account_cannot_keep_others_out() {
    let mut queue = busy(64 * ROUND, 4);
    let of_ana = (0..).map_while(|_| queue.ask(4, known(1), LONG).ok());
    assert_eq!(of_ana.count(), 3 * LANES, "three quarters of the wait");
    let (purpose, refused) = queue.check(16, known(1), LONG);
    assert!(purpose == OTHER && refused.is_err());
    assert_eq!(queue.check(16, known(2), LONG), (known(2), Ok(())));
    assert_eq!(queue.wait(Class::KnownDevices), 16 * ROUND);
}

#[test]
fn the_quarter_is_one_of_rounds_and_not_of_jobs() {
    let mut queue = busy(LONG, 4);
    let o1 = queue.join(4);
    let [k1, k2] = [6, 4].map(|cost| queue.join_known(cost));
    let o2 = queue.join(4);
    // The first known job has as many rounds as four of the others.
    assert_eq!(queue.next_ids(4), [k1, o1, k2, o2]);
}

#[test]
fn others_earn_nothing_while_none_of_them_waits() {
    let mut queue = busy(LONG, 4);
    let known = [(); 8].map(|()| queue.join_known(4));
    assert_eq!(queue.next_ids(5), known[..5]);
    let other = queue.join(4);
    let [.., k6, k7, k8] = known;
    assert_eq!(queue.next_ids(4), [k6, k7, k8, other]);
}

#[test]
fn a_known_device_waits_for_known_ones_and_for_the_quarter_of_the_others() {
    let mut queue = busy(LONG, 4);
    for _ in 0..10 * LANES {
        queue.join(4);
    }
    assert_eq!(queue.wait(Class::KnownDevices), 16 * ROUND);
    for _ in 0..3 * LANES - 1 {
        queue.join_known(4);
    }
    // Three times all lanes for the known ones, the last of which is the new one, and most lanes
    // once for the others.
    assert_eq!(queue.wait(Class::KnownDevices), 4 * 16 * ROUND);
    queue.join_known(4);
    assert_eq!(queue.wait(Class::KnownDevices), 5 * 16 * ROUND);
}

#[test]
fn another_caller_waits_for_what_is_ahead_of_it_by_the_rule() {
    let mut queue = busy(LONG, 4);
    for _ in 0..LANES {
        queue.join(4);
    }
    assert_eq!(queue.wait(Class::Others), 2 * 16 * ROUND);
    for _ in 0..2 * LANES {
        queue.join_known(4);
    }
    assert_eq!(queue.wait(Class::Others), 4 * 16 * ROUND);
    for _ in 0..9 * LANES {
        queue.join_known(4);
    }
    // The first of the second round of others comes after three known ones for each before.
    assert_eq!(queue.wait(Class::Others), 5 * 16 * ROUND);
}

#[test]
fn jobs_are_spread_over_the_threads() {
    let mut queue = queue(2, LONG);
    let ids: Vec<_> = (0..5).map(|_| queue.join(4)).collect();
    assert_eq!(queue.ids(0), ids[..3]);
    let last = queue.join(4);
    assert!(queue.ids(0).is_empty(), "the other thread has fewer");
    assert_eq!(queue.ids(1), [ids[3], ids[4], last]);
    assert!(!queue.is_idle(1));
}

#[test]
fn a_job_that_waits_always_has_a_thread_to_take_it() {
    let mut queue = queue(3, LONG);
    for in_flight in 1..=3 * LANES {
        queue.join(4);
        let taken: usize = (0..3).map(|thread| queue.take(thread).len()).sum();
        assert_eq!(taken, 1, "{in_flight}");
    }
}

#[test]
fn an_upgrade_needs_half_of_the_lanes_free() {
    let mut queue = queue(1, LONG);
    for _ in 0..LANES / 2 {
        queue.ask(4, Purpose::Upgrade, LONG).unwrap();
    }
    queue.ask(4, Purpose::Upgrade, LONG).unwrap_err();
    queue.take(0);
    let retry_after = queue.ask(4, Purpose::Upgrade, LONG);
    assert_eq!(retry_after, Err(16 * ROUND));
    // Other jobs are admitted as before.
    for _ in 0..LANES / 2 {
        queue.ask(4, OTHER, Duration::ZERO).unwrap();
    }
}

#[test]
fn round_times_are_kept_per_number_of_lanes() {
    let mut queue = queue(1, LONG);
    queue.join(4);
    queue.round_times.learn(LANES, 16, 16 * ROUND);
    assert_eq!(queue.round_times.estimate(16, 1), 16 * ALONE);
}

#[test]
fn a_job_has_begun_when_a_thread_took_it_and_not_before() {
    let mut queue = busy(LONG, 4);
    let [(first, began), (removed, never)] = [(); 2].map(|()| {
        let id = queue.join(4);
        (id, queue.waiting.last_began(Class::Others))
    });
    assert!(!began.get(), "it waits");
    queue.remove(removed);
    assert_eq!(queue.next_ids(2), [first]);
    assert_eq!([began.get(), never.get()], [true, false]);
}
