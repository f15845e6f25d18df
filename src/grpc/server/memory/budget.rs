//! The bound for all connections, and the choice of the connection that is closed for others.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
};

use tracing::warn;

use super::{Held, PeerMemory};
use crate::{
    grpc::metrics::{ClosedConnection, Metrics},
    telemetry::LIMITED,
};

/// With idle connections and the service itself the process stays below 128 MB.
const BUDGET: usize = 32 * 1024 * 1024;
/// Only for connections that hold little, such as those of clients that do no harm.
const RESERVE: usize = 8 * 1024 * 1024;
const LITTLE: usize = 64 * 1024;
/// From here on, connections are closed for what waits for them. Below, the budget is full of
/// requests that the service works on.
const STALLED: usize = BUDGET / 4;
/// How many waiting connections try again when another one needs less.
const TRY_AGAIN: usize = 16;

pub struct Budget {
    ledger: Mutex<Ledger>,
    metrics: Metrics,
}

#[derive(Default)]
struct Ledger {
    all: usize,
    stalled: usize,
    newest: u64,
    connections: HashMap<u64, Entry>,
    waiting: VecDeque<u64>,
}

struct Entry {
    /// By the frames that passed.
    held: Held,
    /// Bytes of answers that were not sent yet.
    unread: usize,
    waiting: Option<Waker>,
    memory: Weak<PeerMemory>,
}

impl Entry {
    fn total(&self) -> Held {
        Held {
            all: self.held.all + self.unread,
            stalled: self.held.stalled + self.unread,
        }
    }
}

impl Budget {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            ledger: Mutex::default(),
            metrics,
        }
    }

    pub fn open(self: &Arc<Self>) -> Arc<PeerMemory> {
        let mut ledger = self.ledger();
        ledger.newest += 1;
        let id = ledger.newest;
        let memory = Arc::new(PeerMemory::new(id, Arc::clone(self)));
        let entry = Entry {
            held: Held::default(),
            unread: 0,
            waiting: None,
            memory: Arc::downgrade(&memory),
        };
        ledger.connections.insert(id, entry);
        memory
    }

    pub(super) fn close(&self, id: u64) {
        self.ledger().close(id);
    }

    /// Replaces what a connection holds. If it needs more than there is, it has to wait.
    pub(super) fn poll_hold(&self, id: u64, held: Held, waker: &Waker) -> Poll<()> {
        let mut ledger = self.ledger();
        if ledger.try_hold(id, held) {
            return Poll::Ready(());
        }
        ledger.wait(id, waker);
        let largest = ledger.largest_stalled();
        // The last owner of a `PeerMemory` needs the lock when it drops it.
        drop(ledger);
        if let Some(largest) = largest.filter(|largest| !largest.is_closed()) {
            largest.close();
            warn!(name: LIMITED, "too many unfinished requests and unread answers: closed the connection with the most");
            self.metrics.closed(ClosedConnection::Stalled);
        }
        Poll::Pending
    }

    /// Closes the connection with the most stalled bytes for a new one. `false` if none has any.
    pub fn close_stalled(&self) -> bool {
        let largest = self.ledger().largest();
        let is_closing = largest.is_some_and(|largest| {
            !largest.is_closed() && {
                largest.close();
                true
            }
        });
        if is_closing {
            self.metrics.closed(ClosedConnection::Stalled);
        }
        is_closing
    }

    /// What a connection with nothing more to receive holds, which is never refused.
    pub(super) fn hold(&self, id: u64, held: Held) {
        self.ledger().update(id, |entry| entry.held = held);
    }

    pub(super) fn hold_unread(&self, id: u64, unread: usize) {
        self.ledger().update(id, |entry| entry.unread = unread);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn try_hold(&mut self, id: u64, held: Held) -> bool {
        let Some(entry) = self.connections.get(&id) else {
            return true;
        };
        let (before, after) = (entry.total().all, held.all + entry.unread);
        let limit = if after <= LITTLE {
            BUDGET + RESERVE
        } else {
            BUDGET
        };
        let admitted = after <= before || self.all - before + after <= limit;
        if admitted {
            self.update(id, |entry| entry.held = held);
        }
        admitted
    }

    fn update(&mut self, id: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.connections.get_mut(&id) {
            let before = entry.total();
            change(entry);
            let after = entry.total();
            self.all = self.all - before.all + after.all;
            self.stalled = self.stalled - before.stalled + after.stalled;
            if after.all < before.all {
                self.try_again();
            }
        }
    }

    fn close(&mut self, id: u64) {
        self.update(id, |entry| (entry.held, entry.unread) = Default::default());
        self.connections.remove(&id);
        self.try_again();
    }

    fn wait(&mut self, id: u64, waker: &Waker) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.waiting.replace(waker.clone()).is_none()
        {
            self.waiting.push_back(id);
        }
    }

    fn try_again(&mut self) {
        let next = self.waiting.len().min(TRY_AGAIN);
        for id in self.waiting.drain(..next) {
            let entry = self.connections.get_mut(&id);
            if let Some(waker) = entry.and_then(|entry| entry.waiting.take()) {
                waker.wake();
            }
        }
    }

    /// `None` if the budget is full of other bytes.
    fn largest_stalled(&self) -> Option<Arc<PeerMemory>> {
        if self.stalled < STALLED {
            return None;
        }
        self.largest()
    }

    /// The oldest of those with the most stalled bytes.
    fn largest(&self) -> Option<Arc<PeerMemory>> {
        let stalled = self.connections.iter().filter_map(|(id, entry)| {
            let stalled = entry.total().stalled;
            (stalled > 0).then_some((stalled, Reverse(*id), &entry.memory))
        });
        let (.., memory) = stalled.max_by_key(|&(stalled, id, _)| (stalled, id))?;
        memory.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn budget() -> Arc<Budget> {
        Arc::new(Budget::new(Metrics::register(&mut Registry::default())))
    }

    fn working(all: usize) -> Held {
        let stalled = 0;
        Held { all, stalled }
    }

    fn stalled(all: usize) -> Held {
        let stalled = all;
        Held { all, stalled }
    }

    fn admits(peer: &PeerMemory, held: Held) -> bool {
        let mut context = std::task::Context::from_waker(Waker::noop());
        peer.poll_hold(&mut context, held).is_ready()
    }

    #[test]
    fn what_one_connection_gives_back_another_can_have() {
        let budget = budget();
        let (first, second) = (budget.open(), budget.open());
        assert!(admits(&first, working(BUDGET)));
        assert!(!admits(&second, working(MIB)));
        first.hold(working(BUDGET - MIB));
        assert!(admits(&second, working(MIB)));
        drop(first);
        assert!(admits(&second, working(BUDGET)));
    }

    #[test]
    fn a_connection_that_holds_little_has_a_reserve() {
        let budget = budget();
        let (large, small) = (budget.open(), budget.open());
        assert!(admits(&large, working(BUDGET)));
        assert!(admits(&small, working(LITTLE)));
        assert!(!admits(&small, working(LITTLE + 1)));
    }

    #[test]
    fn the_connection_with_the_most_stalled_bytes_is_closed() {
        let budget = budget();
        let [working_on, few, many, new] = [(); 4].map(|()| budget.open());
        assert!(admits(&working_on, working(BUDGET - STALLED)));
        assert!(admits(&few, stalled(MIB)));
        assert!(admits(&many, stalled(STALLED - MIB)));
        assert!(!admits(&new, working(MIB)));
        let closed = [&working_on, &few, &many, &new].map(|peer| peer.is_closed());
        assert_eq!(closed, [false, false, true, false]);
        // Its bytes are free when it is gone.
        assert!(!admits(&new, working(MIB)));
        drop(many);
        assert!(admits(&new, working(MIB)));
    }

    #[test]
    fn no_connection_is_closed_while_the_service_works_on_most_requests() {
        let budget = budget();
        let [working_on, few, new] = [(); 3].map(|()| budget.open());
        assert!(admits(&working_on, working(BUDGET - MIB)));
        assert!(admits(&few, stalled(MIB)));
        assert!(!admits(&new, working(MIB)));
        assert!(
            ![&working_on, &few, &new]
                .iter()
                .any(|peer| peer.is_closed())
        );
    }

    #[test]
    fn a_connection_with_stalled_bytes_is_closed_for_a_new_one() {
        let budget = budget();
        let [working_on, first, second] = [(); 3].map(|()| budget.open());
        assert!(admits(&working_on, working(MIB)));
        assert!(!budget.close_stalled());
        assert!(admits(&first, stalled(1)) && admits(&second, stalled(1)));
        assert!(budget.close_stalled());
        assert!(first.is_closed() && !second.is_closed() && !working_on.is_closed());
    }

    #[test]
    fn unread_answers_count_as_stalled() {
        let budget = budget();
        let (unread, new) = (budget.open(), budget.open());
        let mut context = std::task::Context::from_waker(Waker::noop());
        assert!(unread.poll_answer(&mut context, BUDGET).is_ready());
        assert!(!admits(&new, working(MIB)));
        assert!(unread.is_closed());
    }
}
