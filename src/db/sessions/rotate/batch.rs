//! Batches of refreshes, on Postgres.
//!
//! A statement for many rows costs the database hardly more than one for a single row, and the
//! database is the part that does not scale out. Refreshes that arrive while others are in
//! flight therefore share a statement:
//!
//! 1. There are [`SLOTS`] slots for statements in flight. A refresh that finds all of them free
//!    runs the plain statement at once, and so does the second of two. There is no timer, so an
//!    idle service answers as fast as without batches.
//! 2. Any other refresh is queued. A second statement begins as soon as it has as many refreshes as
//!    the one in flight: a smaller one would cost the database more for each.
//! 3. When the statement in a slot ends, or is still running after [`SLOT_TIMEOUT`], or its
//!    caller is gone, up to [`MAX_BATCH`] of the queued refreshes are the next batch, by the same
//!    rule.
//! 4. The statement of a batch skips rows that are locked. It never waits for a lock, and cannot
//!    deadlock with the batch of another replica.
//! 5. A batch answers only the refreshes that it rotated. The others run the plain statement:
//!    the token was not the current one, the row was locked, the same token came twice, or the
//!    statement failed because of one row. A refresh that gets no answer from its batch within
//!    half of the time limit runs the plain statement, too.
//!
//! Batches do not change the answer to any refresh: only the plain statement refuses one.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use diesel_async::{AsyncPgConnection, RunQueryDsl, pooled_connection::deadpool::Pool};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Duration, Instant, timeout},
};
use tracing::warn;

use super::{
    Rotation,
    statement::{RotateMany, Rotated, refreshable},
};
use crate::{
    db::{Error, connect::Oldest, metrics::Metrics, with_conn},
    model::Refreshable,
    telemetry::{Causes, LIMITED},
};

/// With more slots the batches are too small to pay. With one the database idles while a reply
/// travels and while the log is flushed.
const SLOTS: usize = 2;

/// Beyond this number the cost of a row hardly falls.
const MAX_BATCH: usize = 128;

/// A statement that waits for a row, or on a dead connection, must not hold up the queue.
const SLOT_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(in crate::db) struct Batches {
    pool: Pool<AsyncPgConnection>,
    timeout: Duration,
    oldest: Oldest,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many refreshes each statement in flight has.
    in_flight: Vec<usize>,
    queue: Vec<Queued>,
}

struct Queued {
    rotation: Rotation,
    answer: oneshot::Sender<Refreshable>,
}

pub(super) enum Entry {
    /// Run the plain statement at once, in this slot.
    InFlight(Slot),
    /// Wait for the answer of a batch. Without one, run the plain statement.
    Queued(oneshot::Receiver<Refreshable>),
}

/// A slot that is taken. When it is dropped, the next batch begins.
pub(super) struct Slot {
    batches: Batches,
    refreshes: usize,
}

impl Batches {
    pub(in crate::db) fn new(
        pool: Pool<AsyncPgConnection>,
        timeout: Duration,
        oldest: Oldest,
        metrics: Metrics,
    ) -> Self {
        Self {
            pool,
            timeout,
            oldest,
            metrics,
            state: Arc::default(),
        }
    }

    pub(super) fn enter(&self, rotation: &Rotation) -> Entry {
        let mut state = self.state();
        if state.queue.is_empty() && state.may_begin(1) {
            return Entry::InFlight(self.begin(&mut state, 1));
        }
        let (answer, answered) = oneshot::channel();
        let rotation = rotation.clone();
        state.queue.push(Queued { rotation, answer });
        self.begin_batch(state);
        Entry::Queued(answered)
    }

    fn begin(&self, state: &mut State, refreshes: usize) -> Slot {
        state.in_flight.push(refreshes);
        Slot {
            batches: self.clone(),
            refreshes,
        }
    }

    /// Begins the next batch, if it may begin.
    fn begin_batch(&self, mut state: MutexGuard<'_, State>) {
        if state.in_flight.len() == SLOTS {
            return;
        }
        let batch = state.next_batch();
        if batch.is_empty() {
            return;
        }
        let slot = self.begin(&mut state, batch.len());
        drop(state);
        // Without a runtime the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            let statement = self.clone().run(batch);
            runtime.spawn(async {
                if let Err(error) = slot.hold_during(statement).await {
                    let error = Causes(&error);
                    warn!(name: LIMITED, %error, "a batch of refreshes failed: each goes alone");
                }
            });
        }
    }

    async fn run(self, mut batch: Vec<Queued>) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let pool = &self.pool;
        let sessions: Vec<Rotated> = with_conn!(@ self, pool, deadline, conn => {
            let statement = RotateMany::new(batch.iter().map(|queued| &queued.rotation));
            statement.load(conn).await?
        })?;
        for refreshed in sessions.into_iter().map(refreshable) {
            // If several callers presented one token, the new token tells which of them won.
            let won =
                |queued: &Queued| refreshed.session.token_hash == queued.rotation.new_token_hash;
            if let Some(at) = batch.iter().position(won) {
                let _gone = batch.swap_remove(at).answer.send(refreshed);
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_begin(&self, refreshes: usize) -> bool {
        let most = self.in_flight.iter().max();
        self.in_flight.len() < SLOTS && most.is_none_or(|&most| refreshes >= most)
    }

    /// Takes the next batch from the queue; none if it may not begin.
    fn next_batch(&mut self) -> Vec<Queued> {
        // Callers that are gone.
        self.queue.retain(|queued| !queued.answer.is_closed());
        let count = self.queue.len().min(MAX_BATCH);
        if count == 0 || !self.may_begin(count) {
            return Vec::new();
        }
        self.queue.drain(..count).collect()
    }
}

impl Slot {
    /// Keeps the slot until `statement` ends, at most for [`SLOT_TIMEOUT`].
    pub(super) async fn hold_during<T>(self, statement: impl Future<Output = T>) -> T {
        let mut statement = pin!(statement);
        if let Ok(done) = timeout(SLOT_TIMEOUT, &mut statement).await {
            return done;
        }
        drop(self);
        statement.await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.batches.state();
        let own = state.in_flight.iter().position(|it| *it == self.refreshes);
        state.in_flight.swap_remove(own.expect("it is in flight"));
        self.batches.begin_batch(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_statement_begins_with_as_many_refreshes_as_the_first() {
        let may_begin = |in_flight: &[usize], refreshes| {
            let state = State {
                in_flight: in_flight.to_vec(),
                queue: Vec::new(),
            };
            state.may_begin(refreshes)
        };
        assert!(may_begin(&[], 1));
        assert!(may_begin(&[1], 1));
        assert!(!may_begin(&[8], 7));
        assert!(may_begin(&[8], 8));
        assert!(!may_begin(&[1, 8], 8));
    }
}
