//! Of the outbox.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// How far the outbox is behind.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    /// Events that wait to be published, the parked ones not counted.
    pub pending: Gauge,
    /// Seconds since the oldest of them happened; 0 if none waits.
    pub oldest_age: Gauge<f64, AtomicU64>,
    /// Events that Kafka acknowledged.
    pub published: Counter,
    /// Events that Kafka will never take.
    pub parked: Gauge,
    /// How long Kafka took for one produce call.
    pub produce: Histogram,
    /// 1 if this replica publishes.
    pub lease_held: Gauge,
}

impl Default for OutboxMetrics {
    fn default() -> Self {
        // Up to PRODUCE_TIMEOUT.
        const BUCKETS: [f64; 9] = [0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0];
        Self {
            pending: Gauge::default(),
            oldest_age: Gauge::default(),
            published: Counter::default(),
            parked: Gauge::default(),
            produce: Histogram::new(BUCKETS),
            lease_held: Gauge::default(),
        }
    }
}

impl OutboxMetrics {
    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Events that wait to be published, the parked ones not counted";
        registry.register("auth_outbox_pending", help, self.pending.clone());
        let help = "Seconds since the oldest waiting event happened";
        registry.register(
            "auth_outbox_oldest_age_seconds",
            help,
            self.oldest_age.clone(),
        );
        let help = "Events that Kafka acknowledged";
        registry.register("auth_outbox_published", help, self.published.clone());
        let help = "Events that Kafka refused and an operator must look at";
        registry.register("auth_outbox_parked", help, self.parked.clone());
        let help = "How long Kafka took for a produce call, failed ones included";
        registry.register(
            "auth_outbox_produce_duration_seconds",
            help,
            self.produce.clone(),
        );
        let help = "1 if this replica publishes the outbox";
        registry.register("auth_outbox_lease_held", help, self.lease_held.clone());
    }
}
