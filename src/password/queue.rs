//! The jobs that wait for a lane, and whether one more would be done in time.
//!
//! Jobs of known devices are served before those of others. While both wait, the others get a
//! quarter of the rounds, so that neither class stands still (see `shares`). Within a class
//! jobs are served in the order in which they came. They are spread evenly over the threads.
//!
//! At most [`KNOWN_OF_ACCOUNT`] jobs of an account wait among those of known devices: further
//! ones wait among the others. Otherwise one account whose logins all succeed, so that no
//! throttle holds them back, would keep all other known devices out.
//!
//! The expected wait is the result of a simulation of all jobs that wait now, at the speed of a
//! thread with full lanes; threads report the rounds that are left. Jobs that come later make a
//! wait longer in two cases. The wait of a known device grows by at most a third, because later
//! jobs of others still get no more than their quarter. Another caller also waits for known
//! devices that come later, but keeps its quarter.
//!
//! The queue has neither a clock nor a lock: its owner has both.

mod job;
mod shares;
mod waiting;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    iter::{from_fn, repeat_n},
    num::NonZeroUsize,
    time::Duration,
};

use self::job::Class;
pub use self::job::Priority;
pub(super) use self::job::{Job, Purpose, Reply};
use self::waiting::WaitingJobs;
use super::{HashError, round_times::RoundTimes};

/// An owner with two devices, or with one that sends a login twice, is served first.
const KNOWN_OF_ACCOUNT: usize = 2;

pub(super) struct Queue {
    waiting: WaitingJobs,
    /// The rounds that are left in each lane of each thread.
    running: Vec<Vec<u32>>,
    max_wait: Duration,
    pub(super) round_times: RoundTimes,
}

impl Queue {
    pub(super) fn new(threads: NonZeroUsize, max_wait: Duration, round_times: RoundTimes) -> Self {
        Self {
            waiting: WaitingJobs::default(),
            running: vec![Vec::with_capacity(round_times.lanes()); threads.get()],
            max_wait,
            round_times,
        }
    }

    /// Appends a job if its answer will come in time. A job without a deadline is never refused.
    /// The id is for [`Queue::remove`], and the purpose is the one that the queue gave the job.
    pub(super) fn admit(
        &mut self,
        mut job: Job,
        time_left: Option<Duration>,
    ) -> (Purpose, Result<u64, HashError>) {
        let purpose = self.bounded(job.purpose);
        let check = |time_left| self.check_time(job.work.rounds(), purpose, time_left);
        let in_time = time_left.map_or(Ok(()), check);
        job.purpose = purpose;
        (purpose, in_time.map(|()| self.waiting.push(job)))
    }

    /// Refuses a hash of so many rounds if it would come too late. The purpose is the one that
    /// the queue would give the job.
    pub(super) fn check(
        &self,
        rounds: u32,
        purpose: Purpose,
        time_left: Duration,
    ) -> (Purpose, Result<(), HashError>) {
        let purpose = self.bounded(purpose);
        (purpose, self.check_time(rounds, purpose, time_left))
    }

    fn bounded(&self, purpose: Purpose) -> Purpose {
        match purpose {
            Purpose::Answer(Priority::KnownDevice(user_id))
                if self.waiting.known_of(user_id) >= KNOWN_OF_ACCOUNT =>
            {
                Purpose::Answer(Priority::Other)
            }
            purpose => purpose,
        }
    }

    fn check_time(
        &self,
        rounds: u32,
        purpose: Purpose,
        time_left: Duration,
    ) -> Result<(), HashError> {
        let class = purpose.class();
        let wait = self.expected_wait(rounds, class);
        let own = (self.round_times).estimate(rounds.into(), self.lanes_of_next());
        let retry_after = wait + own;
        let too_long = wait > self.longest_wait(class);
        let late = too_long || (!wait.is_zero() && retry_after > time_left);
        if late || (purpose == Purpose::Upgrade && self.is_half_full()) {
            return Err(HashError::Overloaded { retry_after });
        }
        Ok(())
    }

    /// Others leave a quarter of the queue to known devices.
    fn longest_wait(&self, class: Class) -> Duration {
        match class {
            Class::KnownDevices => self.max_wait,
            Class::Others => self.max_wait / 4 * 3,
        }
    }

    /// How long a job of so many rounds will wait for a lane if it comes now.
    fn expected_wait(&self, rounds: u32, class: Class) -> Duration {
        let mut free_in = self.lanes_free_in();
        for before in self.waiting.rounds_before(rounds, class) {
            let mut earliest = free_in.peek_mut().expect("there is a lane");
            earliest.0 += u64::from(before);
        }
        let Reverse(wait) = free_in.peek().expect("there is a lane");
        self.round_times.estimate(*wait, self.lanes())
    }

    /// After how many rounds each lane takes a job that waits.
    fn lanes_free_in(&self) -> BinaryHeap<Reverse<u64>> {
        let lanes = self.running.iter().flat_map(|lanes| {
            let busy = lanes.iter().map(|&rounds| u64::from(rounds));
            busy.chain(repeat_n(0, self.lanes() - lanes.len()))
        });
        lanes.map(Reverse).collect()
    }

    /// The lanes of a thread.
    const fn lanes(&self) -> usize {
        self.round_times.lanes()
    }

    /// How many lanes of its thread will be in use when the next job runs.
    fn lanes_of_next(&self) -> usize {
        (self.lanes()).min(self.in_flight() / self.running.len() + 1)
    }

    fn is_half_full(&self) -> bool {
        2 * self.in_flight() >= self.lanes() * self.running.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        let running: usize = self.running.iter().map(Vec::len).sum();
        running + self.waiting.len()
    }

    /// Removes a job that still waits: it will never begin. Nothing happens if it has begun.
    pub(super) fn remove(&mut self, id: u64) {
        self.waiting.remove(id);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Removes the next jobs for a thread, as many as its share allows. They have begun then.
    pub(super) fn take(&mut self, thread: usize) -> Vec<Job> {
        let share = self.in_flight().div_ceil(self.running.len());
        let share = share.min(self.lanes());
        let free = share.saturating_sub(self.running[thread].len());
        let jobs: Vec<_> = from_fn(|| self.waiting.begin_next()).take(free).collect();
        self.running[thread].extend(jobs.iter().map(|job| job.work.rounds()));
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
