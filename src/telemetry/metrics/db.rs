//! Of the database's connections.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use super::Labels;

/// How long work waits for the database.
#[derive(Clone, Debug)]
pub struct DbMetrics {
    wait: Histogram,
    connections: Family<Labels<1>, Gauge>,
    most: Gauge,
}

impl Default for DbMetrics {
    fn default() -> Self {
        // Up to the time limit of a unit of work.
        const BUCKETS: [f64; 7] = [0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 2.5];
        Self {
            wait: Histogram::new(BUCKETS),
            connections: Family::default(),
            most: Gauge::default(),
        }
    }
}

impl DbMetrics {
    /// A unit of work got its connection, or gave up waiting for one.
    pub fn waited(&self, since: Instant) {
        self.wait.observe(since.elapsed().as_secs_f64());
    }

    /// The pool as it is now.
    pub fn pool(&self, busy: usize, idle: usize, most: usize) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (state, n) in [("busy", busy), ("idle", idle)] {
            let labels = [("state", state)];
            self.connections.get_or_create(&labels).set(number(n));
        }
        self.most.set(number(most));
    }

    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Connections to the database, by state";
        registry.register("auth_db_connections", help, self.connections.clone());
        let help = "The most connections there may be";
        registry.register("auth_db_connections_max", help, self.most.clone());
        let help = "How long units of work waited for a connection";
        registry.register("auth_db_wait_seconds", help, self.wait.clone());
    }
}
