use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::model::Timestamp;

/// Seconds: from a read right after the commit to one that had to go far back.
const BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0];

#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) watchers: Gauge,
    held: Gauge,
    delay: Histogram,
    last_read: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            watchers: Gauge::default(),
            held: Gauge::default(),
            delay: Histogram::new(BUCKETS),
            last_read: Gauge::default(),
        };
        let help = "Open streams of gateways that hear of revocations";
        registry.register("auth_edge_watchers", help, metrics.watchers.clone());
        let help = "Revocations that this replica keeps in memory";
        registry.register("auth_edge_revocations_kept", help, metrics.held.clone());
        registry.register(
            "auth_edge_revocation_delay_seconds",
            "From the moment a revocation was written until this replica had read it",
            metrics.delay.clone(),
        );
        registry.register(
            "auth_edge_last_read_timestamp_seconds",
            "When this replica last read the revocations, 0 before the first time",
            metrics.last_read.clone(),
        );
        metrics
    }

    pub(super) fn delayed(&self, delay: Duration) {
        self.delay.observe(delay.as_secs_f64());
    }

    /// A read that began at this time is complete.
    pub(super) fn complete(&self, at: Timestamp, held: usize) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        #[expect(clippy::cast_precision_loss, reason = "microseconds do not matter")]
        self.last_read.set(at.as_micros() as f64 / 1e6);
    }
}
