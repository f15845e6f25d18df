//! What the connection and the calls of one peer share.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::{Budget, Held};

/// The bytes of answers that one connection may have unsent, beyond the first message. h2 would
/// take 400 KiB for each stream from a peer that grants large windows and never reads.
const MAX_UNREAD: usize = 32 * 1024;
/// Waiting answers are woken when this is left, and not for each answer that was sent.
const WAKE_BELOW: usize = MAX_UNREAD / 2;

/// A connection, until the process ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// In the extensions of each request, and in each task of the connection.
pub struct PeerMemory {
    pub id: PeerId,
    budget: Arc<Budget>,
    closed: AtomicBool,
    /// The bytes of streams that may wait for their peer: they have bounds of their own.
    server_streams: AtomicUsize,
    connection: AtomicWaker,
    unread: Mutex<Unread>,
}

#[derive(Default)]
struct Unread {
    bytes: usize,
    waiting: Vec<Waker>,
}

struct Answer {
    bytes: Bytes,
    memory: Arc<PeerMemory>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.memory.answer_ends(self.bytes.len());
    }
}

impl PeerMemory {
    pub(super) fn new(id: PeerId, budget: Arc<Budget>) -> Self {
        Self {
            id,
            budget,
            closed: AtomicBool::new(false),
            server_streams: AtomicUsize::new(0),
            connection: AtomicWaker::new(),
            unread: Mutex::default(),
        }
    }

    /// Counts a part of an answer until the returned bytes are dropped: when they are sent, or
    /// when the stream ends without them. Waits if the peer has much to read.
    pub fn poll_answer(self: &Arc<Self>, context: &Context<'_>, bytes: &Bytes) -> Poll<Bytes> {
        let mut unread = self.unread();
        if unread.bytes > 0 && unread.bytes + bytes.len() > MAX_UNREAD && !self.is_closed() {
            unread.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        unread.bytes += bytes.len();
        self.budget.hold_unread(self.id, unread.bytes);
        drop(unread);
        // The connection then sees whether the peer reads.
        self.connection.wake();
        Poll::Ready(Bytes::from_owner(Answer {
            bytes: bytes.clone(),
            memory: Arc::clone(self),
        }))
    }

    fn answer_ends(&self, bytes: usize) {
        let mut unread = self.unread();
        unread.bytes -= bytes;
        self.budget.hold_unread(self.id, unread.bytes);
        if unread.bytes <= WAKE_BELOW {
            let waiting = mem::take(&mut unread.waiting);
            // A woken task may drop an answer.
            drop(unread);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// These bytes do not count as stalled until the stream ends.
    pub fn server_stream_begins(&self, bytes: usize) {
        self.server_streams.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn server_stream_ends(&self, bytes: usize) {
        self.server_streams.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Like [`Self::server_stream_begins`], and they do not count at all.
    pub fn uncounted_stream_begins(&self, bytes: usize) {
        self.server_stream_begins(bytes);
        self.budget.exempt(self.id, bytes);
    }

    pub fn uncounted_stream_ends(&self, bytes: usize) {
        self.server_stream_ends(bytes);
        self.budget.exempt_no_more(self.id, bytes);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread().bytes > 0
    }

    /// `held` without what server streams take, which does not count as stalled.
    pub(super) fn allow_server_streams(&self, held: Held) -> Held {
        let allowed = self.server_streams.load(Ordering::Relaxed);
        Held {
            stalled: held.stalled.saturating_sub(allowed),
            ..held
        }
    }

    pub(super) fn poll_hold(&self, context: &Context<'_>, held: Held) -> Poll<()> {
        self.budget
            .poll_hold(self.id, held, context.waker(), Instant::now())
    }

    pub(super) fn hold(&self, held: Held) {
        self.budget.hold(self.id, held);
    }

    /// Closes the connection: its next read or write fails, and no answer waits.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.connection.wake();
        let waiting = mem::take(&mut self.unread().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The connection is awake until it asks again.
    pub(super) fn listen(&self, context: &Context<'_>) {
        self.connection.register(context.waker());
    }

    #[cfg(test)]
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection held is free when its calls have ended too: they end a little later.
impl Drop for PeerMemory {
    fn drop(&mut self) {
        self.budget.close(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::grpc::Metrics;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn memory() -> Arc<PeerMemory> {
        Arc::new(Budget::new(Metrics::register(&mut Registry::default()))).open(0)
    }

    fn answer(memory: &Arc<PeerMemory>, waker: &Waker, bytes: usize) -> Option<Bytes> {
        let bytes = vec![0; bytes].into();
        match memory.poll_answer(&Context::from_waker(waker), &bytes) {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        }
    }

    /// h2 drops what it has for a stream that is reset.
    #[test]
    fn an_answer_counts_until_it_is_dropped() {
        let peer = memory();
        let first = answer(&peer, Waker::noop(), 1000);
        let second = answer(&peer, Waker::noop(), MAX_UNREAD - 1000);
        assert!(answer(&peer, Waker::noop(), 1).is_none());
        drop(second);
        assert!(peer.has_unread());
        assert!(answer(&peer, Waker::noop(), 1).is_some());
        drop(first);
        assert!(!peer.has_unread());
    }

    #[test]
    fn waiting_answers_are_woken_when_much_was_read() {
        let (peer, counter) = (memory(), Arc::<Wakes>::default());
        let waker = Waker::from(Arc::clone(&counter));
        let sent = [1, MAX_UNREAD / 2 - 1, MAX_UNREAD / 2]
            .map(|bytes| answer(&peer, &waker, bytes).expect("little is unread"));
        assert!(answer(&peer, &waker, 1).is_none());
        let [first, second, _third] = sent;
        drop(first);
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_answer_waits_on_a_closed_connection() {
        let (peer, counter) = (memory(), Arc::<Wakes>::default());
        let waker = Waker::from(Arc::clone(&counter));
        let _sent = answer(&peer, &waker, MAX_UNREAD);
        assert!(answer(&peer, &waker, 1).is_none());
        peer.close();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(answer(&peer, &waker, 1).is_some());
    }
}
