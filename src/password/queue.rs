//! Who waits for a hashing thread, and for how long.
//!
//! First come, first served. The expected wait is what the threads would take to work the
//! queue off, each job weighing its `2^cost` rounds; the time of a round is learnt from
//! every hash, so the estimate follows the machine when it slows down under load.
//! The queue knows no clock and no lock: both are its owner's.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{hash::Digest, kernel::Work};

pub(super) struct Job {
    id: u64,
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Digest>,
}

struct Running {
    cost: u32,
    started: Instant,
}

pub(super) struct Queue {
    waiting: VecDeque<Job>,
    /// What each thread is at.
    running: Vec<Option<Running>>,
    round: Duration,
    next_id: u64,
}

impl Queue {
    /// An empty queue before `threads` idle threads that take about `round` for a round.
    pub(super) fn new(threads: NonZeroUsize, round: Duration) -> Self {
        let running = (0..threads.get()).map(|_| None).collect();
        Self {
            waiting: VecDeque::new(),
            running,
            round,
            next_id: 0,
        }
    }

    /// How long a job that joins now will wait for a thread.
    pub(super) fn expected_wait(&self, now: Instant) -> Duration {
        let mut free_in: BinaryHeap<_> = self
            .running
            .iter()
            .map(|r| Reverse(self.rest(r.as_ref(), now)))
            .collect();
        for job in &self.waiting {
            let mut earliest = free_in.peek_mut().expect("there is a thread");
            earliest.0 += self.expected(job.work.cost);
        }
        free_in.peek().expect("there is a thread").0
    }

    fn rest(&self, running: Option<&Running>, now: Instant) -> Duration {
        running.map_or(Duration::ZERO, |r| {
            self.expected(r.cost)
                .saturating_sub(now.saturating_duration_since(r.started))
        })
    }

    fn expected(&self, cost: u32) -> Duration {
        self.round.saturating_mul(1 << cost)
    }

    /// Joins the end. The id is for [`Queue::leave`].
    pub(super) fn join(&mut self, work: Work, reply: oneshot::Sender<Digest>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Job { id, work, reply });
        id
    }

    /// Gives up a place. Nothing happens if a thread has taken the job already.
    pub(super) fn leave(&mut self, id: u64) {
        self.waiting.retain(|job| job.id != id);
    }

    /// Sends everybody away.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Hands the first job to a thread.
    pub(super) fn start(&mut self, thread: usize, now: Instant) -> Option<Job> {
        let job = self.waiting.pop_front()?;
        self.running[thread] = Some(Running {
            cost: job.work.cost,
            started: now,
        });
        Some(job)
    }

    /// The thread is idle again. Learns from the time it took: an eighth of each new
    /// sample, so that one preempted hash does not close the door.
    pub(super) fn finish(&mut self, thread: usize, now: Instant) {
        if let Some(Running { cost, started }) = self.running[thread].take() {
            let sample = now.saturating_duration_since(started) / (1 << cost);
            self.round = (self.round * 7 + sample) / 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::kernel::Key;

    const ROUND: Duration = Duration::from_millis(1);

    fn queue(threads: usize) -> Queue {
        Queue::new(NonZeroUsize::new(threads).unwrap(), ROUND)
    }

    fn join(queue: &mut Queue, cost: u32) -> u64 {
        let work = Work {
            key: Key::new(b"x"),
            cost,
            salt: [0; 16],
        };
        queue.join(work, oneshot::channel().0)
    }

    #[test]
    fn nobody_waits_while_a_thread_is_idle() {
        let (mut queue, now) = (queue(2), Instant::now());
        assert_eq!(queue.expected_wait(now), Duration::ZERO);
        join(&mut queue, 16);
        assert_eq!(queue.expected_wait(now), Duration::ZERO);
        queue.start(0, now);
        assert_eq!(queue.expected_wait(now), Duration::ZERO);
    }

    #[test]
    fn the_wait_is_the_rest_of_what_runs_and_all_that_is_queued() {
        let (mut queue, now) = (queue(1), Instant::now());
        join(&mut queue, 4);
        queue.start(0, now);
        join(&mut queue, 5);
        join(&mut queue, 6);
        let later = now + 10 * ROUND;
        assert_eq!(queue.expected_wait(later), (16 - 10 + 32 + 64) * ROUND);
    }

    #[test]
    fn a_hash_that_takes_longer_than_expected_counts_as_nearly_done() {
        let (mut queue, now) = (queue(1), Instant::now());
        join(&mut queue, 4);
        queue.start(0, now);
        assert_eq!(queue.expected_wait(now + 100 * ROUND), Duration::ZERO);
    }

    #[test]
    fn jobs_are_spread_over_the_threads() {
        let (mut queue, now) = (queue(2), Instant::now());
        for _ in 0..4 {
            join(&mut queue, 4);
        }
        assert_eq!(queue.expected_wait(now), 32 * ROUND);
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let (mut queue, now) = (queue(1), Instant::now());
        let first = join(&mut queue, 4);
        let second = join(&mut queue, 5);
        queue.leave(first);
        assert_eq!(queue.expected_wait(now), 32 * ROUND);
        assert_eq!(queue.start(0, now).map(|job| job.id), Some(second));
    }

    #[test]
    fn first_come_is_first_served() {
        let (mut queue, now) = (queue(1), Instant::now());
        let ids: Vec<_> = (0..3).map(|_| join(&mut queue, 4)).collect();
        let served: Vec<_> = std::iter::from_fn(|| queue.start(0, now))
            .map(|job| job.id)
            .collect();
        assert_eq!(served, ids);
    }

    #[test]
    fn the_estimate_follows_the_machine() {
        let (mut queue, now) = (queue(1), Instant::now());
        for _ in 0..100 {
            join(&mut queue, 4);
            queue.start(0, now);
            queue.finish(0, now + 16 * 3 * ROUND);
        }
        let error = queue.round.abs_diff(3 * ROUND);
        assert!(error < ROUND / 100, "{error:?}");
    }
}
