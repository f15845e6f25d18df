//! The open connections, and what each does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
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
    /// When a request last began or ended, in microseconds after `opened`; 0 before the first.
    last: AtomicU64,
    running: AtomicU32,
    must_close: CancellationToken,
}

/// A request that runs, until it is dropped.
pub(super) struct Running(Arc<Activity>);

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Arc::default(),
        }
    }

    /// Admits a new connection, if there are few or an idle one can be closed.
    pub(super) fn admit(&self) -> Option<Connection> {
        let mut open = lock(&self.open);
        if open.connections.len() >= self.limit {
            let Some(id) = open.longest_idle(Instant::now()) else {
                warn!(name: LIMITED, "too many connections, all with running requests: closed a new one");
                return None;
            };
            warn!(name: LIMITED, "too many connections: closed the one that was idle the longest");
            let closed = open.connections.remove(&id).expect("it is open");
            closed.must_close.cancel();
        }
        let id = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new());
        open.connections.insert(id, Arc::clone(&activity));
        drop(open);
        Some(Connection {
            id,
            open: Arc::clone(&self.open),
            activity,
        })
    }
}

impl Open {
    fn longest_idle(&self, now: Instant) -> Option<u64> {
        let idle = self.connections.iter();
        let idle = idle.map(|(id, activity)| (activity.idle(now), *id));
        let (idle, id) = idle.max()?;
        (!idle.is_zero()).then_some(id)
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
            running: AtomicU32::new(0),
            must_close: CancellationToken::new(),
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Running(Arc::clone(self))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.last.load(Ordering::Relaxed) > 0
    }

    /// For how long no request has run.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        now.duration_since(self.opened).saturating_sub(last)
    }

    /// Ends when the connection must make room for a new one.
    pub(super) async fn must_close(&self) {
        self.must_close.cancelled().await;
    }

    fn touch(&self) {
        let elapsed = self.opened.elapsed().as_micros();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX).max(1);
        self.last.store(elapsed, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
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
        let connections = Connections::new(3);
        let [busy, idle, fresh] = [(); 3].map(|()| connections.admit().unwrap());
        let running = busy.activity.begin();
        fresh.activity.last.store(60_000_000, Ordering::Relaxed);
        let next = connections.admit().expect("one is idle");
        assert!(idle.activity.must_close.is_cancelled());
        assert!(!busy.activity.must_close.is_cancelled());
        let others = [&fresh, &next].map(|it| it.activity.begin());
        assert!(connections.admit().is_none(), "all have running requests");
        drop((running, idle, fresh, next, others));
        assert!(connections.admit().is_some());
    }

    #[test]
    fn a_connection_that_is_gone_is_not_counted() {
        let connections = Connections::new(1);
        for _ in 0..3 {
            let connection = connections.admit().unwrap();
            let _running = connection.activity.begin();
        }
    }
}
