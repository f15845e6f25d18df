//! The hashing threads and the door before them.
//!
//! One thread per core, never the async runtime's, at a lower priority: a flood of logins
//! slows logins down and nothing else. A thread takes its hashes a few rounds further at
//! a time, then looks who is done, who gave up and who may join (see [`bcrypt_lanes`]).
//! The queue is bounded by time, because only time means something to a caller: who would
//! wait too long is refused at the door, and who goes away gives up the place or lane.
//!
//! A thread that panics closes the door for all and says so ([`Engine::failed`]).

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
    pace::Pace,
    queue::{Job, Purpose, Queue},
    reply::{Reply, Seated},
};
use crate::stack;

/// Between two looks at the queue: a millisecond or two, in which a look costs nothing.
const ROUNDS: u32 = 16;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No lane would be free in time.
    #[error("no room to hash a password in time")]
    Overloaded {
        /// When those who are before this one will have been served.
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
    /// Starts the threads. `pace` is a first guess.
    pub(super) fn start(
        threads: NonZeroUsize,
        max_wait: Duration,
        pace: Pace,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            door: Mutex::new(Door {
                queue: Queue::new(threads, max_wait, pace),
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

    /// A place in the queue, or the refusal, without waiting.
    pub(super) fn admit(
        &self,
        work: Work,
        purpose: Purpose,
        deadline: tokio::time::Instant,
    ) -> Result<Ticket<'_>, HashError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply::new(reply, self.metrics.waiting());
        let mut door = self.shared.open_door()?;
        let id = door
            .queue
            .admit(work, purpose, time_left(deadline), reply)?;
        drop(door);
        self.shared.changed.notify_one();
        Ok(Ticket {
            shared: &self.shared,
            id,
            answer,
        })
    }

    /// The refusal that such a hash would get now.
    pub(super) fn check(
        &self,
        rounds: u32,
        deadline: tokio::time::Instant,
    ) -> Result<(), HashError> {
        let door = self.shared.open_door()?;
        door.queue
            .check(rounds, Purpose::Answer, time_left(deadline))
    }

    /// What is counted of hashes.
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

/// A place in the queue, then a lane: given up when dropped.
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
        self.shared.door().queue.leave(self.id);
    }
}

fn time_left(deadline: tokio::time::Instant) -> Duration {
    deadline.saturating_duration_since(tokio::time::Instant::now())
}

struct Shared {
    door: Mutex<Door>,
    changed: Condvar,
    failed: CancellationToken,
}

struct Door {
    queue: Queue,
    open: bool,
}

impl Shared {
    /// A poisoned lock still opens: the queue is consistent between any two statements,
    /// and the alarm of a thread that panicked must be able to close it.
    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_door(&self) -> Result<MutexGuard<'_, Door>, HashError> {
        let door = self.door();
        if door.open {
            Ok(door)
        } else {
            Err(HashError::Stopped)
        }
    }

    fn close(&self) {
        let mut door = self.door();
        door.open = false;
        door.queue.clear();
        drop(door);
        self.changed.notify_all();
    }

    fn work(&self, thread: usize) {
        let _alarm = Alarm(self);
        lower_priority();
        let mut lanes = Lanes::default();
        while let Some(jobs) = self.next(thread) {
            if !jobs.is_empty() {
                seat(&mut lanes, jobs);
                stack::wipe();
            }
            self.go_on(thread, &mut lanes);
            if lanes.count() == 0 {
                stack::wipe();
            }
        }
    }

    /// What joins the lanes now; waits for it if all are free. `None` when the door closed.
    fn next(&self, thread: usize) -> Option<Vec<Job>> {
        let mut door = self.door();
        while door.open {
            let jobs = door.queue.take(thread);
            if !door.queue.is_idle(thread) {
                return Some(jobs);
            }
            door = self
                .changed
                .wait(door)
                .unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn go_on(&self, thread: usize, lanes: &mut Lanes<Seated>) {
        let (count, started) = (lanes.count(), Instant::now());
        let rounds = lanes.advance(ROUNDS);
        let took = started.elapsed();
        let complete = lanes.complete();
        lanes.retain(Seated::is_wanted);

        let mut door = self.door();
        door.queue.learn(count, rounds, took);
        door.queue.report(thread, lanes.rounds_left());
        drop(door);
        for (seated, digest) in complete {
            seated.done(digest);
        }
    }
}

/// Never inlined, so that what it leaves on the stack can be wiped.
#[inline(never)]
fn seat(lanes: &mut Lanes<Seated>, jobs: Vec<Job>) {
    for Job { work, reply, .. } in jobs {
        lanes.join(&work, reply.seated(work.cost));
    }
}

/// Tells everybody when the thread that holds it panics.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
            self.0.failed.cancel();
        }
    }
}

/// Half the way to the lowest priority there is: about a tenth of the runtime's share of a
/// contended core. A kernel that forbids it costs some latency and nothing else.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    rustix::process::nice(10).ok();
}

#[cfg(test)]
mod tests;
