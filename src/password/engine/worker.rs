//! The loop of a hashing thread. It advances all its hashes by a few rounds; then complete and
//! abandoned hashes leave, and waiting ones join (see [`bcrypt_lanes`]).

use std::{sync::PoisonError, thread, time::Instant};

use bcrypt_lanes::Lanes;

use super::Shared;
use crate::password::{queue::Job, reply::RunningReply, stack};

/// The rounds between two looks at the queue. They take a millisecond or two, so the cost of
/// a look does not matter.
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
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn advance(&self, thread: usize, lanes: &mut Lanes<RunningReply>) {
        let (count, started) = (lanes.count(), Instant::now());
        let rounds = lanes.advance(ROUNDS);
        let took = started.elapsed();
        let complete = lanes.complete();
        lanes.retain(RunningReply::is_wanted);

        let mut state = self.lock();
        state.queue.learn(count, rounds, took);
        state.queue.report(thread, lanes.rounds_left());
        drop(state);
        for (reply, digest) in complete {
            reply.send(digest);
        }
    }
}

/// Never inlined, so that what it leaves on the stack can be wiped.
#[inline(never)]
fn join(lanes: &mut Lanes<RunningReply>, jobs: Vec<Job>) {
    for Job { work, reply, .. } in jobs {
        lanes.join(&work, reply.begin(work.cost));
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
/// of the runtime's share of a contended core. Where this is forbidden, latency is worse and
/// all else works.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    rustix::process::nice(10).ok();
}
