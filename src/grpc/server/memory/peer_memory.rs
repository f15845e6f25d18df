//! What the connection and the calls of one peer share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::task::AtomicWaker;

use super::{Budget, Held, traffic::STREAM_BYTES};

/// The bytes of answers that one connection may have unsent, beyond the first message. h2 would
/// take 400 KiB for each stream from a peer that grants large windows and never reads.
const MAX_UNREAD: usize = 32 * 1024;

/// In the extensions of each request, and in each task of the connection.
pub struct PeerMemory {
    id: u64,
    budget: Arc<Budget>,
    closed: AtomicBool,
    /// Streams that may wait for their peer: server streams, which have bounds of their own.
    server_streams: AtomicUsize,
    connection: AtomicWaker,
    unread: Mutex<Unread>,
}

#[derive(Default)]
struct Unread {
    bytes: usize,
    waiting: Vec<Waker>,
}

impl PeerMemory {
    pub(super) fn new(id: u64, budget: Arc<Budget>) -> Self {
        Self {
            id,
            budget,
            closed: AtomicBool::new(false),
            server_streams: AtomicUsize::new(0),
            connection: AtomicWaker::new(),
            unread: Mutex::default(),
        }
    }

    /// Takes room for a part of an answer.
    pub fn poll_answer(&self, context: &Context<'_>, bytes: usize) -> Poll<()> {
        let mut unread = self.unread();
        if unread.bytes > 0 && unread.bytes + bytes > MAX_UNREAD && !self.is_closed() {
            unread.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        unread.bytes += bytes;
        self.budget.hold_unread(self.id, unread.bytes);
        // The connection then sees whether the peer reads.
        self.connection.wake();
        Poll::Ready(())
    }

    pub fn server_stream_begins(&self) {
        self.server_streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn server_stream_ends(&self) {
        self.server_streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        let mut unread = self.unread();
        let left = unread.bytes.saturating_sub(bytes);
        self.set_unread(&mut unread, left);
    }

    /// Without a stream nothing is unread: h2 drops what it has for a stream that was reset.
    pub(super) fn nothing_unread(&self) {
        let mut unread = self.unread();
        if unread.bytes > 0 {
            self.set_unread(&mut unread, 0);
        }
    }

    fn set_unread(&self, unread: &mut Unread, bytes: usize) {
        unread.bytes = bytes;
        self.budget.hold_unread(self.id, bytes);
        for answer in unread.waiting.drain(..) {
            answer.wake();
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread().bytes > 0
    }

    /// `held` without what server streams take, which does not count as stalled.
    pub(super) fn allow_server_streams(&self, held: Held) -> Held {
        let allowed = self.server_streams.load(Ordering::Relaxed) * STREAM_BYTES;
        Held {
            stalled: held.stalled.saturating_sub(allowed),
            ..held
        }
    }

    pub(super) fn poll_hold(&self, context: &Context<'_>, held: Held) -> Poll<()> {
        self.budget.poll_hold(self.id, held, context.waker())
    }

    pub(super) fn hold(&self, held: Held) {
        self.budget.hold(self.id, held);
    }

    /// Closes the connection: its next read or write fails.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.connection.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The connection is awake until it asks again.
    pub(super) fn listen(&self, context: &Context<'_>) {
        self.connection.register(context.waker());
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
