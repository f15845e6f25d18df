use prometheus_client::{metrics::counter::Counter, registry::Registry};

use crate::telemetry::metrics::{Counters, count, counters};

#[derive(Clone, Debug)]
pub struct Metrics {
    refreshes: Counters<&'static str>,
    pub(super) throttled: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let outcomes = RefreshOutcome::ALL.map(RefreshOutcome::label);
        let metrics = Self {
            refreshes: counters("outcome", outcomes),
            throttled: Counter::default(),
        };
        let help = "Presented refresh tokens, by outcome";
        registry.register("auth_refresh", help, metrics.refreshes.clone());
        let help = "Logins and other attempts that the throttle refused";
        registry.register("auth_logins_throttled", help, metrics.throttled.clone());
        metrics
    }

    pub(super) fn refreshed(&self, outcome: RefreshOutcome) {
        count(&self.refreshes, "outcome", outcome.label());
    }
}

#[derive(Clone, Copy)]
pub(super) enum RefreshOutcome {
    Rotated,
    Retried,
    Reused,
    Unknown,
}

impl RefreshOutcome {
    const ALL: [Self; 4] = [Self::Rotated, Self::Retried, Self::Reused, Self::Unknown];

    const fn label(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Retried => "retried",
            Self::Reused => "reused",
            Self::Unknown => "unknown",
        }
    }
}
