//! The hashing threads and the admission to them.
//!
//! There is one thread per core. They do not belong to the async runtime and have a lower
//! priority: a flood of logins slows down logins and nothing else.
//!
//! The queue is bounded by time, because callers have a deadline. A call that would wait too
//! long is refused at once. A thread that panics stops the engine for all callers.

mod worker;

pub(super) use self::worker::lower_priority;

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bcrypt_lanes::{Digest, Work};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Began, Priority,
    metrics::{Metrics, Queued},
    queue::{Job, Purpose, Queue},
    round_times::RoundTimes,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("too busy to hash a password in time")]
    Overloaded { retry_after: Duration },
    /// A hashing thread died: see `Hasher::failed`.
    #[error("the password hasher has stopped")]
    Stopped,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    pub(super) metrics: Metrics,
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

    /// Puts a hash into the queue or refuses it, without waiting. Without a deadline, it is never
    /// refused.
    pub(super) fn admit(
        &self,
        work: Work,
        purpose: Purpose,
        deadline: Option<tokio::time::Instant>,
        began: Began,
    ) -> Result<Ticket<'_>, HashError> {
        let (sender, answer) = oneshot::channel();
        let job = Job {
            work,
            purpose,
            began,
            reply: (sender, self.metrics.waiting()),
        };
        let time_left = deadline.map(time_left);
        let (purpose, admitted) = self.shared.lock_open()?.queue.admit(job, time_left);
        let id = admitted.inspect_err(|_| self.metrics.refused(purpose))?;
        self.shared.changed.notify_one();
        Ok(Ticket {
            shared: &self.shared,
            id,
            answer,
            queued: self.metrics.queued(purpose),
        })
    }

    /// The refusal that a hash of so many rounds would get now. It is counted as one.
    pub(super) fn check(
        &self,
        rounds: u32,
        priority: Priority,
        deadline: tokio::time::Instant,
    ) -> Result<(), HashError> {
        let (purpose, checked) = self.shared.check(rounds, priority, deadline)?;
        checked.inspect_err(|_| self.metrics.refused(purpose))
    }

    pub(super) fn would_admit(
        &self,
        rounds: u32,
        priority: Priority,
        deadline: tokio::time::Instant,
    ) -> bool {
        let checked = self.shared.check(rounds, priority, deadline);
        checked.is_ok_and(|(_, checked)| checked.is_ok())
    }

    pub(super) async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// An admitted hash. Dropping it frees the place in the queue or the lane. From then on its
/// [`Began`] does not change.
pub(super) struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    answer: oneshot::Receiver<Digest>,
    queued: Queued<'a>,
}

impl Ticket<'_> {
    pub(super) async fn digest(mut self) -> Result<Digest, HashError> {
        let digest = (&mut self.answer).await.map_err(|_| HashError::Stopped)?;
        self.queued.done();
        Ok(digest)
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
    /// `StopOnPanic` must be able to close it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_open(&self) -> Result<MutexGuard<'_, State>, HashError> {
        let state = self.lock();
        let open = state.open;
        open.then_some(state).ok_or(HashError::Stopped)
    }

    fn check(
        &self,
        rounds: u32,
        priority: Priority,
        deadline: tokio::time::Instant,
    ) -> Result<(Purpose, Result<(), HashError>), HashError> {
        let queue = &self.lock_open()?.queue;
        Ok(queue.check(rounds, Purpose::Answer(priority), time_left(deadline)))
    }

    fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state.queue.clear();
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
