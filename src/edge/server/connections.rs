//! The open connections, and what each does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::telemetry::LIMITED;

pub(super) struct Connections {
    limit: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Activity>>,
}

/// Counts one connection against the limit, until it is dropped.
pub(super) struct Connection {
    id: u64,
    open: Arc<Mutex<Open>>,
    pub(super) activity: Arc<Activity>,
}

pub(super) struct Activity {
    opened: Instant,
    /// When a request was last answered, in nanoseconds after `opened`; 0 before the first. A
    /// coarser time would be rounded down, and an older one could win.
    last: AtomicU64,
    must_close: CancellationToken,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Arc::default(),
        }
    }

    /// Admits a new connection. At the limit, the one that has been idle the longest is closed:
    /// answers take microseconds, so a connection with an unanswered request is idle too.
    pub(super) fn admit(&self) -> Connection {
        let mut open = lock(&self.open);
        if open.connections.len() >= self.limit {
            open.close_longest_idle(Instant::now());
        }
        let id = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new());
        open.connections.insert(id, Arc::clone(&activity));
        drop(open);
        Connection {
            id,
            open: Arc::clone(&self.open),
            activity,
        }
    }
}

impl Open {
    fn close_longest_idle(&mut self, now: Instant) {
        let idle = self.connections.iter();
        let idle = idle.map(|(id, activity)| (activity.idle(now), *id));
        let longest = idle.max().and_then(|(_, id)| self.connections.remove(&id));
        if let Some(longest) = longest {
            warn!(name: LIMITED, "too many connections: closed the one that was idle the longest");
            longest.must_close.cancel();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.open).connections.remove(&self.id);
    }
}

impl Activity {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            last: AtomicU64::new(0),
            must_close: CancellationToken::new(),
        }
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        let elapsed = self.opened.elapsed().as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX).max(1);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.last.load(Ordering::Relaxed) > 0
    }

    /// For how long no request was answered.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        now.duration_since(self.opened).saturating_sub(last)
    }

    /// Ends when the connection must make room for a new one.
    pub(super) async fn must_close(&self) {
        self.must_close.cancelled().await;
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_was_idle_the_longest_makes_room() {
        let connections = Connections::new(2);
        let [first, second] = [(); 2].map(|()| connections.admit());
        first.activity.answered();
        let third = connections.admit();
        assert!(second.activity.must_close.is_cancelled());
        assert!(!first.activity.must_close.is_cancelled());
        assert!(!third.activity.must_close.is_cancelled());
    }

    #[test]
    fn a_connection_that_is_gone_is_not_counted() {
        let connections = Connections::new(2);
        let open = connections.admit();
        for _ in 0..3 {
            connections.admit().activity.answered();
        }
        assert!(!open.activity.must_close.is_cancelled());
    }
}
