use bcrypt_lanes::Key;

use super::*;
use crate::password::metrics::Metrics;

const ROUND: Duration = Duration::from_millis(1);
/// A round of a single lane takes half the time.
const ALONE: Duration = Duration::from_micros(500);
const OTHER: Purpose = Purpose::Answer(Priority::Other);
const LONG: Duration = Duration::from_hours(1);

fn queue(threads: usize, max_wait: Duration) -> Queue {
    let mut times = [ROUND; LANES];
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

impl Queue {
    fn ask(&mut self, cost: u32, purpose: Purpose, left: Duration) -> Result<u64, Duration> {
        let work = Work {
            key: Key::new(b"x"),
            cost,
            salt: u128::from(self.next_id).to_be_bytes(),
        };
        let waiting = Metrics::unregistered().waiting();
        let job = Job {
            work,
            purpose,
            began: Began::default(),
            reply: (oneshot::channel().0, waiting),
        };
        match self.admit(job, left) {
            Ok(id) => Ok(id),
            Err(HashError::Overloaded { retry_after }) => Err(retry_after),
            Err(HashError::Stopped) => panic!("the queue does not stop"),
        }
    }

    fn join(&mut self, cost: u32) -> u64 {
        self.ask(cost, OTHER, LONG).unwrap()
    }

    fn ids(&mut self, thread: usize) -> Vec<u64> {
        let taken = self.take(thread).into_iter();
        let id = |job: Job| u128::from_be_bytes(job.work.salt).try_into().unwrap();
        taken.map(id).collect()
    }
}

#[test]
fn no_job_waits_while_a_lane_is_free() {
    let mut queue = queue(2, Duration::ZERO);
    for _ in 0..2 * LANES {
        assert_eq!(queue.expected_wait(), Duration::ZERO);
        queue.ask(16, OTHER, Duration::ZERO).unwrap();
    }
    assert_eq!(queue.expected_wait(), ROUND * (1 << 16));
}

#[test]
fn the_wait_is_the_rest_of_what_runs_and_all_that_is_queued() {
    let mut queue = busy(LONG, 6);
    assert_eq!(queue.expected_wait(), 64 * ROUND);
    queue.report(0, [60, 50, 40, 30, 20, 10].into_iter());
    assert_eq!(queue.expected_wait(), 10 * ROUND);
    // Each job takes the lane that is free first: after 10, 20, 30 and then after 26 rounds.
    queue.join(4);
    assert_eq!(queue.expected_wait(), 20 * ROUND);
    queue.join(5);
    assert_eq!(queue.expected_wait(), 26 * ROUND);
}

#[test]
fn a_job_that_would_wait_too_long_is_refused() {
    let mut queue = busy(64 * ROUND, 6);
    for _ in 0..LANES {
        queue.join(6);
    }
    assert_eq!(queue.ask(4, OTHER, LONG), Err((128 + 16) * ROUND));
    queue.report(0, [64, 64, 64, 64, 64, 0].into_iter());
    queue.join(4);
}

#[test]
fn a_job_that_could_not_be_done_before_its_deadline_is_refused() {
    let mut queue = busy(LONG, 6);
    let (wait, own) = (64 * ROUND, 16 * ROUND);
    let too_short = wait + own.saturating_sub(Duration::from_nanos(1));
    assert_eq!(queue.ask(4, OTHER, too_short), Err(wait + own));
    queue.ask(4, OTHER, wait + own).unwrap();
}

#[test]
fn a_removed_job_is_not_waited_for() {
    let mut queue = busy(LONG, 4);
    let ids: Vec<_> = (0..LANES).map(|_| queue.join(5)).collect();
    assert_eq!(queue.expected_wait(), 48 * ROUND);
    queue.remove(ids[2]);
    assert_eq!(queue.expected_wait(), 16 * ROUND);
    queue.report(0, [].into_iter());
    assert_eq!(queue.ids(0), [ids[0], ids[1], ids[3], ids[4], ids[5]]);
}

#[test]
fn first_come_is_first_served() {
    let mut queue = busy(LONG, 4);
    let ids: Vec<_> = (0..4).map(|_| queue.join(4)).collect();
    assert!(queue.ids(0).is_empty());
    queue.report(0, [16; LANES - 1].into_iter());
    assert_eq!(queue.ids(0), ids[..1]);
    queue.report(0, [16; LANES - 3].into_iter());
    assert_eq!(queue.ids(0), ids[1..]);
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
