use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug)]
pub struct Metrics {
    pub pending: Gauge,
    pub oldest_age: Gauge<f64, AtomicU64>,
    pub published: Counter,
    pub parked: Gauge,
    pub produce: Histogram,
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
        let help = "Events that wait to be published, the parked ones not counted";
        registry.register("auth_outbox_pending", help, metrics.pending.clone());
        registry.register(
            "auth_outbox_oldest_age_seconds",
            "Seconds since the oldest waiting event happened",
            metrics.oldest_age.clone(),
        );
        let help = "Events that Kafka acknowledged";
        registry.register("auth_outbox_published", help, metrics.published.clone());
        let help = "Parked events: Kafka refused them and an operator must act";
        registry.register("auth_outbox_parked", help, metrics.parked.clone());
        registry.register(
            "auth_outbox_produce_duration_seconds",
            "How long Kafka took for a produce call, failed ones included",
            metrics.produce.clone(),
        );
        let help = "1 if this replica publishes the outbox";
        registry.register("auth_outbox_lease_held", help, metrics.lease_held.clone());
        metrics
    }
}
