//! Metrics of the outbox.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug)]
pub struct Metrics {
    /// Events that wait to be published, without the parked ones.
    pub pending: Gauge,
    /// Seconds since the oldest pending event happened; 0 if none is pending.
    pub oldest_age: Gauge<f64, AtomicU64>,
    pub published: Counter,
    pub parked: Gauge,
    /// The duration of produce calls.
    pub produce: Histogram,
    /// 1 if this replica publishes.
    pub lease_held: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        // Up to PRODUCE_TIMEOUT.
        const BUCKETS: [f64; 9] = [0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0];
        let metrics = Self {
            pending: Gauge::default(),
            oldest_age: Gauge::default(),
            published: Counter::default(),
            parked: Gauge::default(),
            produce: Histogram::new(BUCKETS),
            lease_held: Gauge::default(),
        };
        registry.register(
            "auth_outbox_pending",
            "Events that wait to be published, the parked ones not counted",
            metrics.pending.clone(),
        );
        registry.register(
            "auth_outbox_oldest_age_seconds",
            "Seconds since the oldest waiting event happened",
            metrics.oldest_age.clone(),
        );
        registry.register(
            "auth_outbox_published",
            "Events that Kafka acknowledged",
            metrics.published.clone(),
        );
        registry.register(
            "auth_outbox_parked",
            "Events that Kafka refused and an operator must look at",
            metrics.parked.clone(),
        );
        registry.register(
            "auth_outbox_produce_duration_seconds",
            "How long Kafka took for a produce call, failed ones included",
            metrics.produce.clone(),
        );
        registry.register(
            "auth_outbox_lease_held",
            "1 if this replica publishes the outbox",
            metrics.lease_held.clone(),
        );
        metrics
    }
}
