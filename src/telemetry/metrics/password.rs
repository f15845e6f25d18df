//! Of password hashes.

use std::time::Instant;

use prometheus_client::{
    metrics::{gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tracing::{Span, info_span};

use super::{Counters, count, counters};
use crate::telemetry::SPANS;

/// What becomes of password hashes.
#[derive(Clone, Debug)]
pub struct PasswordMetrics {
    hashes: Counters<&'static str>,
    by_cost: Counters<u32>,
    wait: Histogram,
    lanes_busy: Gauge,
}

impl Default for PasswordMetrics {
    fn default() -> Self {
        // Up to the default REQUEST_TIMEOUT; a hash itself takes 0.1 to 0.6 s.
        const BUCKETS: [f64; 8] = [0.001, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
        Self {
            hashes: counters("outcome", ["done", "refused", "cancelled"]),
            by_cost: counters("cost", 10..=16),
            wait: Histogram::new(BUCKETS),
            lanes_busy: Gauge::default(),
        }
    }
}

impl PasswordMetrics {
    /// A hash that is wanted. It counts as cancelled unless it is told otherwise.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            hashes: &self.hashes,
            outcome: "cancelled",
        }
    }

    /// A hash begins to wait for a lane.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting {
            since: Instant::now(),
            metrics: self.clone(),
            _span: info_span!(target: SPANS, "wait for a lane"),
        }
    }

    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Password hashes that were wanted, by what became of them";
        registry.register("auth_password_hashes", help, self.hashes.clone());
        let help = "Password hashes that were computed, by bcrypt cost";
        registry.register("auth_password_hashes_by_cost", help, self.by_cost.clone());
        let help = "How long hashes waited for a lane";
        registry.register("auth_password_wait_seconds", help, self.wait.clone());
        let help = "Lanes that compute a hash now";
        registry.register("auth_password_lanes_busy", help, self.lanes_busy.clone());
    }
}

/// A hash that somebody wants.
pub struct Wanted<'a> {
    hashes: &'a Counters<&'static str>,
    outcome: &'static str,
}

impl Wanted<'_> {
    /// There is the hash.
    pub const fn done(&mut self) {
        self.outcome = "done";
    }

    /// There was no room for it.
    pub const fn refused(&mut self) {
        self.outcome = "refused";
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        count(self.hashes, "outcome", self.outcome);
    }
}

/// A hash that waits for a lane; dropped if it gets none.
pub struct Waiting {
    since: Instant,
    metrics: PasswordMetrics,
    /// Ends with the wait.
    _span: Span,
}

impl Waiting {
    /// It has a lane.
    #[must_use]
    pub fn over(self, cost: u32) -> Busy {
        let metrics = self.metrics;
        metrics.wait.observe(self.since.elapsed().as_secs_f64());
        metrics.lanes_busy.inc();
        Busy { metrics, cost }
    }
}

/// A lane that is busy until this is dropped.
pub struct Busy {
    metrics: PasswordMetrics,
    cost: u32,
}

impl Busy {
    /// The hash was computed.
    pub fn computed(&self) {
        let cost = [("cost", self.cost)];
        self.metrics.by_cost.get_or_create(&cost).inc();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.metrics.lanes_busy.dec();
    }
}
