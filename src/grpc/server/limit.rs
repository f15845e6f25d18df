//! The connection limit.
//!
//! Each connection costs memory and a file descriptor, and without a free descriptor the
//! service cannot reach the database either. Near the limit, the connection that has been idle
//! the longest is closed for a new one, so idle connections never keep new clients out. RFC
//! 9113 (9.1) lets a server close an idle connection at any time. If the service works on a call
//! of every connection, one whose client does not read is closed (`memory`). If there is none,
//! the new one is closed. Calls end at their deadline, and unfinished requests do not count, so
//! that lasts a short time. A connection does not count while it has a watch of `EdgeService`, whose
//! number is bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::warn;

use super::{
    idle::{ConnectionId, IdleOrder},
    memory::Budget,
};
use crate::{
    grpc::metrics::{ClosedConnection, Metrics},
    telemetry::LIMITED,
};

/// Gateways and services hold a few connections each. An idle one takes about 30 KiB, or 60 KiB
/// with TLS, and the process has to stay below 128 MB (`memory`).
const MAX_CONNECTIONS: usize = 512;

/// A thousand edges, and those that come again before their old stream has ended. Their
/// connections do not count against the limit of the others.
const MAX_WATCHERS: usize = 1_100;

/// As long as a call may take.
const WAIT_FOR_PLACE: Duration = Duration::from_secs(10);

/// File descriptors for everything else: database, Kafka, log, files, probes.
#[cfg(target_os = "linux")]
const RESERVED_DESCRIPTORS: usize = 128;

pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    /// Idle connections are closed before the limit is reached: on a busy machine a closed one
    /// takes a while to end, and new ones would wait for it one after another.
    ahead: usize,
    open: Arc<OpenConnections>,
    memory: Arc<Budget>,
    metrics: Metrics,
}

impl ConnectionLimit {
    pub(super) fn new(connections: usize, memory: Arc<Budget>, metrics: Metrics) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections)),
            ahead: connections / 32,
            open: Arc::default(),
            memory,
            metrics,
        }
    }

    /// Admits a new connection, if there are few or one can be closed. The limit holds at every
    /// moment: if none is free, this waits until one that is being closed is gone.
    pub(super) async fn admit(&self) -> Option<Slot> {
        let free = self.free.available_permits();
        let has_closed = free <= self.ahead && self.close_longest_idle();
        if free == 0 && !has_closed && !self.close_stalled() {
            warn!(name: LIMITED, "too many connections, all with running calls: closed a new one");
            self.metrics.closed(ClosedConnection::New);
            return None;
        }
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let counted = Counted::new(&self.free, permit.expect("it is never closed"));
        Some(Slot::new(&self.open, counted))
    }

    fn close_longest_idle(&self) -> bool {
        let is_closed = self.open.close_longest_idle();
        if is_closed {
            warn!(name: LIMITED, "too many connections: closed the one that was idle the longest");
            self.metrics.closed(ClosedConnection::Idle);
        }
        is_closed
    }

    fn close_stalled(&self) -> bool {
        let is_closed = self.memory.close_stalled(Instant::now());
        if is_closed {
            warn!(name: LIMITED, "too many connections: closed one whose client does not finish its calls");
        }
        is_closed
    }
}

#[derive(Default)]
struct OpenConnections(Mutex<Open>);

#[derive(Default)]
struct Open {
    order: IdleOrder,
    must_close: HashMap<ConnectionId, CancellationToken>,
}

impl OpenConnections {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_longest_idle(&self) -> bool {
        let mut open = self.lock();
        let longest_idle = open.order.take_longest_idle();
        let must_close = longest_idle.and_then(|id| open.must_close.remove(&id));
        // The waker of the connection's task runs here and must not need the lock.
        drop(open);
        must_close.map(|token| token.cancel()).is_some()
    }
}

/// Counts one connection against the limit, until it is dropped.
pub(super) struct Slot {
    id: ConnectionId,
    open: Arc<OpenConnections>,
    counted: Arc<Counted>,
}

impl Slot {
    fn new(open: &Arc<OpenConnections>, counted: Counted) -> Self {
        let must_close = counted.must_close.clone();
        let mut all = open.lock();
        let id = all.order.open();
        all.must_close.insert(id, must_close);
        drop(all);
        Self {
            id,
            open: Arc::clone(open),
            counted: Arc::new(counted),
        }
    }

    /// Completes when the connection is closed for a new one.
    pub(super) fn must_close(&self) -> WaitForCancellationFutureOwned {
        self.counted.must_close.clone().cancelled_owned()
    }

    pub(super) fn calls(&self) -> Calls {
        Calls {
            id: self.id,
            open: Arc::clone(&self.open),
            counted: Arc::clone(&self.counted),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.order.close(self.id);
        open.must_close.remove(&self.id);
    }
}

/// The place of a connection among those that the limit counts.
struct Counted {
    free: Arc<Semaphore>,
    place: Mutex<Place>,
    must_close: CancellationToken,
}

struct Place {
    /// `None` while there are reasons not to count the connection.
    permit: Option<OwnedSemaphorePermit>,
    reasons: usize,
}

impl Counted {
    fn new(free: &Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            free: Arc::clone(free),
            place: Mutex::new(Place {
                permit: Some(permit),
                reasons: 0,
            }),
            must_close: CancellationToken::new(),
        }
    }

    /// Other calls of the connection can end meanwhile.
    async fn wait_for_place(self: Arc<Self>) {
        let permit = timeout(WAIT_FOR_PLACE, Arc::clone(&self.free).acquire_owned()).await;
        let mut place = self.place();
        if place.reasons > 0 {
            return;
        }
        place.permit = permit.ok().and_then(Result::ok);
        let has_none = place.permit.is_none();
        // The waker of the connection's task runs here and must not need the lock.
        drop(place);
        if has_none {
            self.must_close.cancel();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is dropped, its connection does not count against the limit. Then the connection takes
/// a place again. If none becomes free in time, it is closed.
pub struct Uncounted(Arc<Counted>);

impl Drop for Uncounted {
    fn drop(&mut self) {
        let mut place = self.0.place();
        place.reasons -= 1;
        if place.reasons > 0 {
            return;
        }
        place.permit = Arc::clone(&self.0.free).try_acquire_owned().ok();
        // Without a runtime the process ends.
        if place.permit.is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(Arc::clone(&self.0).wait_for_place());
        }
    }
}

/// Counts the running calls of a connection.
pub(super) struct Calls {
    id: ConnectionId,
    open: Arc<OpenConnections>,
    counted: Arc<Counted>,
}

impl Calls {
    /// The call runs until the returned value is dropped.
    pub(super) fn begin(&self) -> RunningCall {
        let (id, open) = (self.id, Arc::clone(&self.open));
        open.lock().order.begin_call(id);
        RunningCall { id, open }
    }

    pub(super) fn leave_limit(&self) -> Uncounted {
        let mut place = self.counted.place();
        place.reasons += 1;
        place.permit = None;
        drop(place);
        Uncounted(Arc::clone(&self.counted))
    }
}

pub struct RunningCall {
    id: ConnectionId,
    open: Arc<OpenConnections>,
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.open.lock().order.end_call(self.id);
    }
}

/// As many as the service wants, or the system lets it have.
pub(super) fn max_connections() -> usize {
    MAX_CONNECTIONS.min(descriptors_for_clients())
}

/// The streams of `EdgeService`. The connections of other clients come first.
pub fn max_watchers() -> usize {
    MAX_WATCHERS.min(descriptors_for_clients() - max_connections())
}

fn descriptors_for_clients() -> usize {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        let descriptors = getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok());
        descriptors.map_or(usize::MAX, |limit| {
            limit.saturating_sub(RESERVED_DESCRIPTORS).max(limit / 2)
        })
    }
    #[cfg(not(target_os = "linux"))]
    usize::MAX
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    /// A limit of two, and what its metrics say.
    fn limit() -> (ConnectionLimit, impl Fn(&str) -> bool) {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let memory = Arc::new(Budget::new(metrics.clone()));
        let limit = ConnectionLimit::new(2, memory, metrics);
        let counted = move |series: &str| {
            let mut text = String::new();
            encode(&mut text, &registry).expect("metrics");
            text.contains(&format!("auth_connections_closed_total{series}\n"))
        };
        (limit, counted)
    }

    #[tokio::test]
    async fn at_the_limit_the_connection_that_was_idle_the_longest_makes_way() {
        let (limit, counted) = limit();
        let first = limit.admit().await.expect("below the limit");
        let second = limit.admit().await.expect("below the limit");
        // The first is used later than the second.
        drop(first.calls().begin());
        let mut admitted = Box::pin(limit.admit());
        assert!(
            (&mut admitted).now_or_never().is_none(),
            "it waits for the end of another"
        );
        assert!(second.must_close().now_or_never().is_some());
        assert!(first.must_close().now_or_never().is_none());
        drop(second);
        assert!(admitted.await.is_some());
        assert!(counted(r#"{which="idle"} 1"#) && counted(r#"{which="new"} 0"#));
    }

    #[tokio::test]
    async fn a_connection_with_a_running_call_is_not_closed() {
        let (limit, counted) = limit();
        let first = limit.admit().await.expect("below the limit");
        let second = limit.admit().await.expect("below the limit");
        let calls = [first.calls().begin(), second.calls().begin()];
        assert!(limit.admit().await.is_none());
        assert!(counted(r#"{which="idle"} 0"#) && counted(r#"{which="new"} 1"#));
        let [_, of_second] = calls;
        drop(of_second);
        assert!(limit.admit().now_or_never().is_none());
        assert!(second.must_close().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_connection_that_left_the_limit_takes_a_place_again() {
        let (limit, _) = limit();
        let watching = limit.admit().await.expect("below the limit");
        let calls = watching.calls();
        let running = calls.begin();
        let (first, second) = (calls.leave_limit(), calls.leave_limit());
        let others = [limit.admit().await, limit.admit().await];
        assert!(others.iter().all(Option::is_some), "two places are free");
        drop(first);
        assert!(
            watching.must_close().now_or_never().is_none(),
            "it has a reason still"
        );
        drop(others);
        drop(second);
        assert!(
            watching.must_close().now_or_never().is_none(),
            "it has a place"
        );
        let only = limit.admit().await.expect("one place is free");
        let uncounted = calls.leave_limit();
        let other = limit.admit().await.expect("the place of the first");
        drop((uncounted, running));
        assert!(
            watching.counted.place().permit.is_none(),
            "all places are taken"
        );
        drop(other);
        while watching.counted.place().permit.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(watching.must_close().now_or_never().is_none());
        drop(only);
    }
}
