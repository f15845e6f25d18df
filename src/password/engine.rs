//! The hashing threads and the admission to them.
//!
//! There is one thread per core. They do not belong to the async runtime and have a lower
//! priority: a flood of logins slows down logins and nothing else. A thread advances all its
//! hashes by a few rounds. Then finished and abandoned hashes leave, and waiting ones join
//! (see [`bcrypt_lanes`]).
//!
//! The queue is bounded by time, because callers care about time, not about length. A call
//! that would wait too long is refused at once. A call that is dropped frees its place in
//! the queue or its lane.
//!
//! A thread that panics stops the engine for all callers, see [`Engine::failed`].

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bcrypt_lanes::{Digest, Lanes, Work};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    metrics::Metrics,
    queue::{Job, Purpose, Queue},
    reply::{Reply, RunningReply},
    round_times::RoundTimes,
};
use crate::stack;

/// The rounds between two looks at the queue. They take a millisecond or two, so the cost of
/// a look does not matter.
const ROUNDS: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No lane would be free in time.
    #[error("no room to hash a password in time")]
    Overloaded {
        /// When the hashes that were admitted before will be done.
        retry_after: Duration,
    },
    /// A hashing thread died: see `Hasher::failed`.
    #[error("the password hasher has stopped")]
    Stopped,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Engine {
    /// Starts the threads. `round_times` is a first estimate.
    pub(super) fn start(
        threads: NonZeroUsize,
        max_wait: Duration,
        round_times: RoundTimes,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(threads, max_wait, round_times),
                open: true,
            }),
            changed: Condvar::new(),
            failed: CancellationToken::new(),
        });
        let engine = Self { shared, metrics };
        for n in 0..threads.get() {
            let shared = Arc::clone(&engine.shared);
            thread::Builder::new()
                .name(format!("password-{n}"))
                .spawn(move || shared.work(n))?;
        }
        Ok(engine)
    }

    /// Puts a hash into the queue or refuses it, without waiting.
    pub(super) fn admit(
        &self,
        work: Work,
        purpose: Purpose,
        deadline: tokio::time::Instant,
    ) -> Result<Ticket<'_>, HashError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply::new(reply, self.metrics.waiting());
        let time_left = time_left(deadline);
        let id = (self.shared.lock_open()?.queue).admit(work, purpose, time_left, reply)?;
        self.shared.changed.notify_one();
        Ok(Ticket {
            shared: &self.shared,
            id,
            answer,
        })
    }

    /// The refusal that a hash would get now.
    pub(super) fn check(
        &self,
        rounds: u32,
        deadline: tokio::time::Instant,
    ) -> Result<(), HashError> {
        let time_left = time_left(deadline);
        (self.shared.lock_open()?.queue).check(rounds, Purpose::Answer, time_left)
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Resolves when a thread died.
    pub(super) async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }
}

impl Drop for Engine {
    /// Ends the threads, each after a few rounds.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// An admitted hash. Dropping it frees the place in the queue or the lane.
pub(super) struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    answer: oneshot::Receiver<Digest>,
}

impl Ticket<'_> {
    pub(super) async fn digest(mut self) -> Result<Digest, HashError> {
        (&mut self.answer).await.map_err(|_| HashError::Stopped)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.remove(self.id);
    }
}

fn time_left(deadline: tokio::time::Instant) -> Duration {
    deadline.saturating_duration_since(tokio::time::Instant::now())
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    failed: CancellationToken,
}

struct State {
    queue: Queue,
    open: bool,
}

impl Shared {
    /// Ignores poisoning: the queue is consistent between any two statements, and
    /// [`StopOnPanic`] must be able to close it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_open(&self) -> Result<MutexGuard<'_, State>, HashError> {
        let state = self.lock();
        if state.open {
            Ok(state)
        } else {
            Err(HashError::Stopped)
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state.queue.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// The loop of a hashing thread.
    fn work(&self, thread: usize) {
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

#[cfg(test)]
mod tests;
