//! Who has a lane, who waits for one, and whether one more would be served in time.
//!
//! First come, first served, and each thread takes its share: its lanes do not fill up
//! while another has fewer in use. The expected wait is the rounds that are before one,
//! which the threads tell as they go, at the pace that a thread goes with full lanes.
//! The queue knows no clock and no lock: both are its owner's.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    iter::repeat_n,
    num::NonZeroUsize,
    time::Duration,
};

use bcrypt_lanes::{LANES, Work};

use super::{HashError, pace::Pace, reply::Reply};

pub(super) struct Job {
    id: u64,
    pub(super) work: Work,
    pub(super) reply: Reply,
}

/// What a hash is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody waits for it.
    Answer,
    /// Another time will do as well, so it stands in nobody's way: half of the lanes stay
    /// free of upgrades, and there are none at all while the other half is busy.
    Upgrade,
}

pub(super) struct Queue {
    waiting: VecDeque<Job>,
    /// For each thread, the rounds that each of its lanes has to go.
    running: Vec<Vec<u32>>,
    max_wait: Duration,
    pace: Pace,
    next_id: u64,
}

impl Queue {
    /// An empty queue before `threads` idle threads.
    pub(super) fn new(threads: NonZeroUsize, max_wait: Duration, pace: Pace) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: vec![Vec::with_capacity(LANES); threads.get()],
            max_wait,
            pace,
            next_id: 0,
        }
    }

    /// Joins the end, if the answer will come in time. The id is for [`Queue::leave`].
    pub(super) fn admit(
        &mut self,
        work: Work,
        purpose: Purpose,
        time_left: Duration,
        reply: Reply,
    ) -> Result<u64, HashError> {
        self.check(work.rounds(), purpose, time_left)?;
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Job { id, work, reply });
        Ok(id)
    }

    /// The refusal, if a hash of so many rounds would come too late.
    pub(super) fn check(
        &self,
        rounds: u32,
        purpose: Purpose,
        time_left: Duration,
    ) -> Result<(), HashError> {
        let wait = self.expected_wait();
        let retry_after = wait + self.pace.of(rounds.into(), self.lanes_of_next());
        let late = wait > self.max_wait || (!wait.is_zero() && retry_after > time_left);
        if late || (purpose == Purpose::Upgrade && self.is_half_full()) {
            return Err(HashError::Overloaded { retry_after });
        }
        Ok(())
    }

    /// How long a job that joins now will wait for a lane.
    fn expected_wait(&self) -> Duration {
        let lanes = self.running.iter().flat_map(|lanes| {
            let busy = lanes.iter().map(|&rounds| u64::from(rounds));
            busy.chain(repeat_n(0, LANES - lanes.len()))
        });
        let mut free_in: BinaryHeap<_> = lanes.map(Reverse).collect();
        for job in &self.waiting {
            let mut earliest = free_in.peek_mut().expect("there is a lane");
            earliest.0 += u64::from(job.work.rounds());
        }
        let Reverse(rounds) = free_in.peek().expect("there is a lane");
        self.pace.of(*rounds, LANES)
    }

    /// How many lanes will go on together where the next job goes.
    fn lanes_of_next(&self) -> usize {
        LANES.min(self.in_flight() / self.running.len() + 1)
    }

    fn is_half_full(&self) -> bool {
        2 * self.in_flight() >= LANES * self.running.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.running.iter().map(Vec::len).sum::<usize>() + self.waiting.len()
    }

    /// Gives up a place. Nothing happens if the job has a lane already.
    pub(super) fn leave(&mut self, id: u64) {
        self.waiting.retain(|job| job.id != id);
    }

    /// Sends everybody away.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Hands a thread the first jobs, as many as are its share.
    pub(super) fn take(&mut self, thread: usize) -> Vec<Job> {
        let share = LANES.min(self.in_flight().div_ceil(self.running.len()));
        let lanes = &mut self.running[thread];
        let count = share.saturating_sub(lanes.len()).min(self.waiting.len());
        let jobs: Vec<_> = self.waiting.drain(..count).collect();
        lanes.extend(jobs.iter().map(|job| job.work.rounds()));
        jobs
    }

    /// Notes what each lane of a thread has to go now.
    pub(super) fn report(&mut self, thread: usize, rounds_left: impl Iterator<Item = u32>) {
        self.running[thread].clear();
        self.running[thread].extend(rounds_left);
    }

    /// Notes that some rounds of so many lanes took so long.
    pub(super) fn learn(&mut self, lanes: usize, rounds: u32, took: Duration) {
        self.pace.learn(lanes, rounds, took);
    }

    pub(super) fn is_idle(&self, thread: usize) -> bool {
        self.running[thread].is_empty()
    }
}

#[cfg(test)]
mod tests;
