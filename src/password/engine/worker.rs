//! The loop of a hashing thread. It advances all its hashes by a few rounds; then complete and
//! cancelled hashes leave, and waiting ones join (see [`bcrypt_lanes`]).

use std::{sync::PoisonError, thread, time::Instant};

use bcrypt_lanes::Lanes;

use super::Shared;
use crate::password::{
    metrics::Busy,
    queue::{Job, Reply},
    stack,
};

/// The number of rounds between two checks of the queue. They take one or two milliseconds, much
/// longer than a check.
const ROUNDS: u32 = 16;

impl Shared {
    pub(super) fn work(&self, thread: usize) {
        let _guard = StopOnPanic(self);
        lower_priority();
        let mut lanes = Lanes::default();
        while let Some(jobs) = self.next(thread) {
            if !jobs.is_empty() {
                join(&mut lanes, jobs);
                stack::wipe();
            }
            self.advance(thread, &mut lanes);
            if lanes.count() == 0 {
                stack::wipe();
            }
        }
    }

    /// The jobs that join the lanes now. Waits for a job if all lanes are free. `None` when
    /// the engine was closed.
    fn next(&self, thread: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.open {
            let jobs = state.queue.take(thread);
            if !state.queue.is_idle(thread) {
                return Some(jobs);
            }
            let changed = self.changed.wait(state);
            state = changed.unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn advance(&self, thread: usize, lanes: &mut Lanes<Reply<Busy>>) {
        let (count, started) = (lanes.count(), Instant::now());
        let rounds = lanes.advance(ROUNDS);
        let took = started.elapsed();
        let complete = lanes.complete();
        lanes.retain(|(answer, _)| !answer.is_closed());

        let mut state = self.lock();
        state.queue.round_times.learn(count, rounds, took);
        state.queue.report(thread, lanes.rounds_left());
        drop(state);
        for ((answer, busy), digest) in complete {
            busy.computed();
            // Fails if the caller stopped waiting in the meantime.
            answer.send(digest).ok();
        }
    }
}

#[inline(never)]
fn join(lanes: &mut Lanes<Reply<Busy>>, jobs: Vec<Job>) {
    for job in jobs {
        let (answer, waiting) = job.reply;
        let busy = waiting.end(job.purpose, job.work.cost);
        lanes.join(&job.work, (answer, busy));
    }
}

/// Closes the engine when the thread that holds it panics.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
            self.0.failed.cancel();
        }
    }
}

/// Sets a nice value half-way to the lowest priority, which leaves the thread about a tenth
/// of the runtime's share of a contended core. If the system forbids it, only latency is
/// worse.
pub(in crate::password) fn lower_priority() {
    #[cfg(target_os = "linux")]
    rustix::process::nice(10).ok();
}
