//! Of refresh tokens and logins.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::{Counters, count, counters};

/// What becomes of refresh tokens and logins.
#[derive(Clone, Debug)]
pub struct AuthMetrics {
    refreshes: Counters<&'static str>,
    /// Attempts that the throttle held back.
    pub throttled: Counter,
}

impl Default for AuthMetrics {
    fn default() -> Self {
        let outcomes = ["rotated", "retried", "reused", "unknown"];
        Self {
            refreshes: counters("outcome", outcomes),
            throttled: Counter::default(),
        }
    }
}

impl AuthMetrics {
    /// A refresh token was shown, and turned out to be this.
    pub fn refreshed(&self, outcome: &'static str) {
        count(&self.refreshes, "outcome", outcome);
    }

    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Refresh tokens that were shown, by what they turned out to be";
        registry.register("auth_refresh", help, self.refreshes.clone());
        let help = "Logins, and other attempts, that the throttle held back";
        registry.register("auth_logins_throttled", help, self.throttled.clone());
    }
}
