use std::time::Instant;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tracing::{Span, info_span};

use super::queue::Purpose;
use crate::telemetry::{
    SPANS,
    metrics::{Counters, Labels, counters},
};

const DONE: &str = "done";
const REFUSED: &str = "refused";
const CANCELLED: &str = "cancelled";

/// By outcome and priority.
type Hashes = Family<Labels<2>, Counter>;
/// By priority.
type Waits = Family<Labels<1>, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    hashes: Hashes,
    by_cost: Counters<u32>,
    wait: Waits,
    lanes_busy: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        // Up to the default REQUEST_TIMEOUT; a hash itself takes 0.1 to 0.6 s.
        const BUCKETS: [f64; 8] = [0.001, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
        let metrics = Self {
            hashes: Hashes::default(),
            by_cost: counters("cost", 4..=16),
            wait: Waits::new_with_constructor(|| Histogram::new(BUCKETS)),
            lanes_busy: Gauge::default(),
        };
        for priority in Purpose::WORDS {
            drop(metrics.wait.get_or_create(&[("priority", priority)]));
            for outcome in [DONE, REFUSED, CANCELLED] {
                drop(metrics.hashes.get_or_create(&labels(outcome, priority)));
            }
        }
        let help = "Requested password hashes, by outcome and priority";
        registry.register("auth_password_hashes", help, metrics.hashes.clone());
        registry.register(
            "auth_password_hashes_by_cost",
            "Computed password hashes, by bcrypt cost",
            metrics.by_cost.clone(),
        );
        let help = "How long hashes waited for a lane, by priority";
        registry.register("auth_password_wait_seconds", help, metrics.wait.clone());
        let help = "Lanes that compute a hash now";
        registry.register("auth_password_lanes_busy", help, metrics.lanes_busy.clone());
        metrics
    }

    pub(super) fn refused(&self, purpose: Purpose) {
        let labels = labels(REFUSED, purpose.word());
        self.hashes.get_or_create(&labels).inc();
    }

    /// A hash was queued. It counts as cancelled unless it is done.
    pub(super) fn queued(&self, purpose: Purpose) -> Queued<'_> {
        Queued {
            hashes: &self.hashes,
            purpose,
            outcome: CANCELLED,
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            since: Instant::now(),
            metrics: self.clone(),
            _span: info_span!(target: SPANS, "wait for a lane"),
        }
    }
}

#[cfg(test)]
impl Metrics {
    pub(super) fn unregistered() -> Self {
        Self::register(&mut Registry::default())
    }

    pub(super) fn computed(&self, cost: u32) -> u64 {
        self.by_cost.get_or_create(&[("cost", cost)]).get()
    }

    pub(super) fn lanes_busy(&self) -> i64 {
        self.lanes_busy.get()
    }
}

const fn labels(outcome: &'static str, priority: &'static str) -> Labels<2> {
    [("outcome", outcome), ("priority", priority)]
}

/// A queued hash, counted with its outcome when this is dropped.
pub(super) struct Queued<'a> {
    hashes: &'a Hashes,
    purpose: Purpose,
    outcome: &'static str,
}

impl Queued<'_> {
    pub(super) const fn done(&mut self) {
        self.outcome = DONE;
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let labels = labels(self.outcome, self.purpose.word());
        self.hashes.get_or_create(&labels).inc();
    }
}

/// A hash that waits for a lane; dropped if it gets none.
pub(super) struct Waiting {
    since: Instant,
    metrics: Metrics,
    _span: Span,
}

impl Waiting {
    pub(super) fn end(self, purpose: Purpose, cost: u32) -> Busy {
        let metrics = self.metrics;
        let labels = [("priority", purpose.word())];
        let wait = metrics.wait.get_or_create(&labels);
        wait.observe(self.since.elapsed().as_secs_f64());
        drop(wait);
        metrics.lanes_busy.inc();
        Busy { metrics, cost }
    }
}

/// A lane that counts as busy until this is dropped.
pub(super) struct Busy {
    metrics: Metrics,
    cost: u32,
}

impl Busy {
    pub(super) fn computed(&self) {
        let cost = [("cost", self.cost)];
        self.metrics.by_cost.get_or_create(&cost).inc();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.metrics.lanes_busy.dec();
    }
}
