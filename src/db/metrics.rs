//! Metrics of the connections to the database.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use super::retry::Conflict;
use crate::telemetry::metrics::Labels;

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    wait: Histogram,
    connections: Family<Labels<1>, Gauge>,
    most: Gauge,
    retries: Family<Labels<1>, Counter>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        // Up to the time limit of a unit of work.
        const BUCKETS: [f64; 7] = [0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 2.5];
        let metrics = Self {
            wait: Histogram::new(BUCKETS),
            connections: Family::default(),
            most: Gauge::default(),
            retries: Family::default(),
        };
        let help = "Connections to the database, by state";
        registry.register("auth_db_connections", help, metrics.connections.clone());
        let help = "The most connections there may be";
        registry.register("auth_db_connections_max", help, metrics.most.clone());
        let help = "How long units of work waited for a connection";
        registry.register("auth_db_wait_seconds", help, metrics.wait.clone());
        let help = "Units of work that were run again, by why the database rolled them back";
        registry.register("auth_db_retries", help, metrics.retries.clone());
        for conflict in Conflict::ALL {
            let _exists = metrics.retries.get_or_create(&labels(conflict));
        }
        metrics
    }

    pub(super) fn retried(&self, conflict: Conflict) {
        self.retries.get_or_create(&labels(conflict)).inc();
    }

    /// A unit of work got its connection, or gave up waiting for one.
    pub(super) fn waited(&self, since: Instant) {
        self.wait.observe(since.elapsed().as_secs_f64());
    }

    pub(super) fn pool(&self, busy: usize, idle: usize, most: usize) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (state, n) in [("busy", busy), ("idle", idle)] {
            let labels = [("state", state)];
            self.connections.get_or_create(&labels).set(number(n));
        }
        self.most.set(number(most));
    }
}

fn labels(conflict: Conflict) -> Labels<1> {
    [("reason", conflict.as_str())]
}
