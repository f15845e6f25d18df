//! Of calls.

use std::time::Duration;

use prometheus_client::{
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use super::Labels;

/// What becomes of calls.
#[derive(Clone, Debug)]
pub struct RpcMetrics(Family<Labels<2>, Histogram, fn() -> Histogram>);

impl RpcMetrics {
    /// With a series for each of these methods and codes.
    #[must_use]
    pub fn new(methods: impl Iterator<Item = &'static str>, codes: &[&'static str]) -> Self {
        // From a Refresh to the longest that a call may take by default.
        const BUCKETS: [f64; 10] = [0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];
        let metrics = Self(Family::new_with_constructor(|| Histogram::new(BUCKETS)));
        for method in methods {
            for code in codes {
                drop(
                    metrics
                        .0
                        .get_or_create(&[("method", method), ("code", code)]),
                );
            }
        }
        metrics
    }

    /// A call of `method` was answered with `code`, so long after it came.
    pub fn answered(&self, method: &'static str, code: &'static str, after: Duration) {
        let labels = [("method", method), ("code", code)];
        self.0.get_or_create(&labels).observe(after.as_secs_f64());
    }

    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "How long calls took, by method and code";
        registry.register("auth_rpc_duration_seconds", help, self.0.clone());
    }
}
