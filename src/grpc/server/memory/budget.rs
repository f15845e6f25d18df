//! The bound for all connections, and the choice of the connection that is closed for others.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
};

use tokio::time::Instant;
use tracing::warn;

use super::{Held, PeerId, PeerMemory, lasting::Lasting};
use crate::{
    grpc::metrics::{ClosedConnection, Metrics},
    telemetry::LIMITED,
};

/// With idle connections and the service itself the process stays below 128 MB.
const BUDGET: usize = 24 * 1024 * 1024;
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
    connections: HashMap<PeerId, Entry>,
    waiting: VecDeque<PeerId>,
}

struct Entry {
    /// By the frames that passed.
    held: Held,
    /// Counts for the sum of all connections only.
    transport: usize,
    /// Bytes of answers that were not sent yet.
    unread: usize,
    /// Does not count: it has a bound of its own.
    exempt: usize,
    lasting: Lasting,
    waiting: Option<Waker>,
    memory: Weak<PeerMemory>,
}

impl Entry {
    fn total(&self) -> Held {
        self.with(self.held)
    }

    fn with(&self, held: Held) -> Held {
        Held {
            all: (held.all + self.unread).saturating_sub(self.exempt),
            stalled: held.stalled + self.unread,
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

    /// For a connection whose transport may keep this many bytes.
    pub fn open(self: &Arc<Self>, transport: usize) -> Arc<PeerMemory> {
        let mut ledger = self.ledger();
        ledger.all += transport;
        ledger.newest += 1;
        let id = PeerId(ledger.newest);
        let memory = Arc::new(PeerMemory::new(id, Arc::clone(self)));
        let entry = Entry {
            held: Held::default(),
            transport,
            unread: 0,
            exempt: 0,
            lasting: Lasting::new(Instant::now()),
            waiting: None,
            memory: Arc::downgrade(&memory),
        };
        ledger.connections.insert(id, entry);
        memory
    }

    pub(super) fn close(&self, id: PeerId) {
        self.ledger().close(id);
    }

    /// Replaces what a connection holds. If it needs more than there is, it has to wait.
    pub(super) fn poll_hold(
        &self,
        id: PeerId,
        held: Held,
        waker: &Waker,
        now: Instant,
    ) -> Poll<()> {
        let mut ledger = self.ledger();
        if ledger.try_hold(id, held) {
            return Poll::Ready(());
        }
        ledger.wait(id, waker);
        let largest = ledger.largest_stalled(now);
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
    pub fn close_stalled(&self, now: Instant) -> bool {
        let largest = self.ledger().largest(now);
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
    pub(super) fn hold(&self, id: PeerId, held: Held) {
        self.ledger().update(id, |entry| entry.held = held);
    }

    pub(super) fn hold_unread(&self, id: PeerId, unread: usize) {
        self.ledger().update(id, |entry| entry.unread = unread);
    }

    /// These bytes of a connection do not count until they are exempt no more. What its transport
    /// keeps does not count from now on.
    pub(super) fn exempt(&self, id: PeerId, bytes: usize) {
        let mut ledger = self.ledger();
        ledger.update(id, |entry| entry.exempt += bytes);
        let transport = ledger.connections.get_mut(&id);
        let transport = transport.map_or(0, |entry| mem::take(&mut entry.transport));
        ledger.all -= transport;
    }

    pub(super) fn exempt_no_more(&self, id: PeerId, bytes: usize) {
        self.ledger().update(id, |entry| entry.exempt -= bytes);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn try_hold(&mut self, id: PeerId, held: Held) -> bool {
        let Some(entry) = self.connections.get(&id) else {
            return true;
        };
        let (before, after) = (entry.total().all, entry.with(held).all);
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

    fn update(&mut self, id: PeerId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.connections.get_mut(&id) {
            let before = entry.total();
            change(entry);
            let after = entry.total();
            self.all = self.all - before.all + after.all;
            self.stalled = self.stalled - before.stalled + after.stalled;
            entry.lasting.set(after.stalled, Instant::now());
            if after.all < before.all {
                self.try_again();
            }
        }
    }

    fn close(&mut self, id: PeerId) {
        self.update(id, |entry| (entry.held, entry.unread) = Default::default());
        let closed = self.connections.remove(&id);
        self.all -= closed.map_or(0, |entry| entry.transport);
        self.try_again();
    }

    fn wait(&mut self, id: PeerId, waker: &Waker) {
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
    fn largest_stalled(&self, now: Instant) -> Option<Arc<PeerMemory>> {
        if self.stalled < STALLED {
            return None;
        }
        self.largest(now)
    }

    /// The oldest of those with the most bytes that have been stalled for a while. The answers
    /// that a busy gateway is reading are stalled too, for a moment.
    fn largest(&self, now: Instant) -> Option<Arc<PeerMemory>> {
        let stalled = self.connections.iter().filter_map(|(id, entry)| {
            let stalled = entry.lasting.get(now);
            (stalled > 0).then_some((stalled, Reverse(*id), &entry.memory))
        });
        let (.., memory) = stalled.max_by_key(|&(stalled, id, _)| (stalled, id))?;
        memory.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::grpc::server::memory::lasting::A_WHILE;

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

    fn admits_at(peer: &PeerMemory, held: Held, now: Instant) -> bool {
        let budget = peer.budget();
        budget
            .poll_hold(peer.id, held, Waker::noop(), now)
            .is_ready()
    }

    fn admits(peer: &PeerMemory, held: Held) -> bool {
        admits_at(peer, held, Instant::now())
    }

    /// Like `admits`, when what is stalled now has been for a while.
    fn admits_later(peer: &PeerMemory, held: Held) -> bool {
        admits_at(peer, held, Instant::now() + 2 * A_WHILE)
    }

    #[test]
    fn what_one_connection_gives_back_another_can_have() {
        let budget = budget();
        let (first, second) = (budget.open(0), budget.open(0));
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
        let (large, small) = (budget.open(0), budget.open(0));
        assert!(admits(&large, working(BUDGET)));
        assert!(admits(&small, working(LITTLE)));
        assert!(!admits(&small, working(LITTLE + 1)));
    }

    #[test]
    fn the_connection_with_the_most_stalled_bytes_is_closed() {
        let budget = budget();
        let [working_on, few, many, new] = [(); 4].map(|()| budget.open(0));
        assert!(admits(&working_on, working(BUDGET - STALLED)));
        assert!(admits(&few, stalled(MIB)));
        assert!(admits(&many, stalled(STALLED - MIB)));
        assert!(!admits_later(&new, working(MIB)));
        let closed = [&working_on, &few, &many, &new].map(|peer| peer.is_closed());
        assert_eq!(closed, [false, false, true, false]);
        // Its bytes are free when it is gone.
        assert!(!admits_later(&new, working(MIB)));
        drop(many);
        assert!(admits(&new, working(MIB)));
    }

    #[test]
    fn no_connection_is_closed_while_the_service_works_on_most_requests() {
        let budget = budget();
        let [working_on, few, new] = [(); 3].map(|()| budget.open(0));
        assert!(admits(&working_on, working(BUDGET - MIB)));
        assert!(admits(&few, stalled(MIB)));
        assert!(!admits_later(&new, working(MIB)));
        assert!(
            ![&working_on, &few, &new]
                .iter()
                .any(|peer| peer.is_closed())
        );
    }

    #[test]
    fn a_connection_with_stalled_bytes_is_closed_for_a_new_one() {
        let budget = budget();
        let [working_on, first, second] = [(); 3].map(|()| budget.open(0));
        assert!(admits(&working_on, working(MIB)));
        let later = Instant::now() + 2 * A_WHILE;
        assert!(!budget.close_stalled(later));
        assert!(admits(&first, stalled(1)) && admits(&second, stalled(1)));
        let later = Instant::now() + 2 * A_WHILE;
        assert!(budget.close_stalled(later));
        assert!(first.is_closed() && !second.is_closed() && !working_on.is_closed());
    }

    #[test]
    fn unread_answers_count_as_stalled() {
        let budget = budget();
        let (unread, new) = (budget.open(0), budget.open(0));
        let context = Context::from_waker(Waker::noop());
        let answer = unread.poll_answer(&context, &vec![0; BUDGET].into());
        assert!(answer.is_ready());
        assert!(!admits_later(&new, working(MIB)));
        assert!(unread.is_closed());
    }

    /// An attacker may spread his bytes over many connections. The answers that a gateway is
    /// reading are stalled for a moment only.
    #[test]
    fn a_busy_gateway_is_not_closed_for_many_small_attackers() {
        let budget = budget();
        let attackers: Vec<_> = (0..BUDGET / (32 * 1024)).map(|_| budget.open(0)).collect();
        let [gateway, new] = [(); 2].map(|()| budget.open(0));
        for attacker in &attackers {
            assert!(admits(attacker, stalled(32 * 1024)));
        }
        let later = Instant::now() + 2 * A_WHILE;
        let calls = 5 * MIB;
        for _ in 0..20 {
            // Without `update`, whose time is the real one.
            let mut ledger = budget.ledger();
            let entry = ledger.connections.get_mut(&gateway.id).expect("open");
            entry.lasting.set(0, later);
            entry.lasting.set(calls, later);
        }
        assert!(!admits_at(&new, working(MIB), later + A_WHILE / 2));
        assert!(!gateway.is_closed());
        assert!(attackers.iter().any(|attacker| attacker.is_closed()));
    }

    #[test]
    fn the_buffers_of_transports_count_while_they_are_open() {
        let budget = budget();
        let (encrypted, other) = (budget.open(MIB), budget.open(0));
        assert!(admits(&encrypted, working(LITTLE)));
        assert!(!admits(&other, working(BUDGET)));
        drop(encrypted);
        assert!(admits(&other, working(BUDGET)));
    }
}
