//! The jobs that wait for a lane, and whether one more would be done in time.
//!
//! Jobs are served in the order in which they came. The jobs are spread evenly over the
//! threads. The expected wait is the time of all rounds that come before a job, at the speed
//! of a thread with full lanes; threads report the rounds that are left.
//!
//! The queue has neither a clock nor a lock: its owner has both.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    iter::repeat_n,
    num::NonZeroUsize,
    time::Duration,
};

use bcrypt_lanes::{Digest, LANES, Work};
use tokio::sync::oneshot;

use super::{Began, HashError, metrics::Waiting, round_times::RoundTimes};

/// The way back to the caller of a hash, with the metrics of its state.
pub(super) type Reply<State> = (oneshot::Sender<Digest>, State);

pub(super) struct Job {
    pub(super) work: Work,
    pub(super) purpose: Purpose,
    pub(super) began: Began,
    pub(super) reply: Reply<Waiting>,
}

/// Who asks for a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A device on which the account logged in before, or a signed-in user.
    KnownDevice,
    Other,
}

/// The reason for a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A caller waits for it.
    Answer(Priority),
    /// A stored hash gets the configured cost. This can be done at another time and must not
    /// delay a caller: upgrades are refused unless half of the lanes are free.
    Upgrade,
}

pub(super) struct Queue {
    waiting: VecDeque<(u64, Job)>,
    /// The rounds that are left in each lane of each thread.
    running: Vec<Vec<u32>>,
    max_wait: Duration,
    pub(super) round_times: RoundTimes,
    next_id: u64,
}

impl Queue {
    pub(super) fn new(threads: NonZeroUsize, max_wait: Duration, round_times: RoundTimes) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: vec![Vec::with_capacity(LANES); threads.get()],
            max_wait,
            round_times,
            next_id: 0,
        }
    }

    /// Appends a job if its answer will come in time. The id is for [`Queue::remove`].
    pub(super) fn admit(&mut self, job: Job, time_left: Duration) -> Result<u64, HashError> {
        self.check(job.work.rounds(), job.purpose, time_left)?;
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back((id, job));
        Ok(id)
    }

    /// Refuses a hash of so many rounds if it would come too late.
    pub(super) fn check(
        &self,
        rounds: u32,
        purpose: Purpose,
        time_left: Duration,
    ) -> Result<(), HashError> {
        let wait = self.expected_wait();
        let lanes = self.lanes_of_next();
        let retry_after = wait + self.round_times.estimate(rounds.into(), lanes);
        let late = wait > self.max_wait || (!wait.is_zero() && retry_after > time_left);
        if late || (purpose == Purpose::Upgrade && self.is_half_full()) {
            return Err(HashError::Overloaded { retry_after });
        }
        Ok(())
    }

    /// How long a job that is appended now will wait for a lane.
    fn expected_wait(&self) -> Duration {
        let lanes = self.running.iter().flat_map(|lanes| {
            let busy = lanes.iter().map(|&rounds| u64::from(rounds));
            busy.chain(repeat_n(0, LANES - lanes.len()))
        });
        let mut free_in: BinaryHeap<_> = lanes.map(Reverse).collect();
        for (_, job) in &self.waiting {
            let mut earliest = free_in.peek_mut().expect("there is a lane");
            earliest.0 += u64::from(job.work.rounds());
        }
        let Reverse(rounds) = free_in.peek().expect("there is a lane");
        self.round_times.estimate(*rounds, LANES)
    }

    /// How many lanes of its thread will be in use when the next job runs.
    fn lanes_of_next(&self) -> usize {
        LANES.min(self.in_flight() / self.running.len() + 1)
    }

    fn is_half_full(&self) -> bool {
        2 * self.in_flight() >= LANES * self.running.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.running.iter().map(Vec::len).sum::<usize>() + self.waiting.len()
    }

    /// Removes a job that still waits: it will never begin. Nothing happens if it has begun.
    pub(super) fn remove(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Removes the first jobs for a thread, as many as its share allows. They have begun then.
    pub(super) fn take(&mut self, thread: usize) -> Vec<Job> {
        let share = LANES.min(self.in_flight().div_ceil(self.running.len()));
        let lanes = &mut self.running[thread];
        let count = share.saturating_sub(lanes.len()).min(self.waiting.len());
        let jobs: Vec<_> = self.waiting.drain(..count).map(|(_, job)| job).collect();
        for job in &jobs {
            job.began.set();
            lanes.push(job.work.rounds());
        }
        jobs
    }

    pub(super) fn report(&mut self, thread: usize, rounds_left: impl Iterator<Item = u32>) {
        self.running[thread].clear();
        self.running[thread].extend(rounds_left);
    }

    pub(super) fn is_idle(&self, thread: usize) -> bool {
        self.running[thread].is_empty()
    }
}

#[cfg(test)]
mod tests;
