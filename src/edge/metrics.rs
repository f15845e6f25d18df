use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::time::Instant;

use super::{Knowledge, State, checks::Denied};
use crate::{model::Timestamp, telemetry::metrics::counters};

const ACCEPTED: &str = "ok";
const INCOMPLETE: &str = "incomplete";

/// Each counter is kept, so that a check does not have to look it up.
#[derive(Clone, Debug)]
pub struct Metrics {
    accepted: Counter,
    denied: [Counter; Denied::ALL.len()],
    incomplete: Counter,
    is_stale: Gauge,
    revocations: Gauge,
    last_message: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let outcomes = [ACCEPTED, INCOMPLETE].into_iter();
        let outcomes = outcomes.chain(Denied::ALL.map(Denied::label));
        let checks = counters("outcome", outcomes);
        let counter = |outcome| checks.get_or_create(&[("outcome", outcome)]).clone();
        let metrics = Self {
            accepted: counter(ACCEPTED),
            denied: Denied::ALL.map(|denied| counter(denied.label())),
            incomplete: counter(INCOMPLETE),
            is_stale: Gauge::default(),
            revocations: Gauge::default(),
            last_message: Gauge::default(),
        };
        let help = "Requests that were checked, by outcome";
        registry.register("auth_edge_checks", help, checks);
        let help = "1 while new revocations are unknown for longer than EDGE_MAX_STALENESS";
        registry.register("auth_edge_stale", help, metrics.is_stale.clone());
        let help = "Revocations in memory";
        registry.register("auth_edge_revocations", help, metrics.revocations.clone());
        registry.register(
            "auth_edge_last_message_timestamp_seconds",
            "When the service last sent something, in seconds since 1970; 0 before",
            metrics.last_message.clone(),
        );
        metrics
    }

    /// Counts a check that was accepted or denied.
    pub(super) fn count(&self, denied: Option<Denied>) {
        match denied {
            None => self.accepted.inc(),
            Some(denied) => self.denied[denied as usize].inc(),
        };
    }

    /// Counts a check whose message was not read.
    pub(super) fn count_incomplete(&self) {
        self.incomplete.inc();
    }

    /// Sets the gauges, for a scrape.
    pub fn measure(&self, knowledge: &Knowledge) {
        let state = knowledge.state(Instant::now());
        let is_stale = matches!(state, State::Stale | State::KeysTooOld);
        self.is_stale.set(is_stale.into());
        let revocations = i64::try_from(knowledge.revocations());
        self.revocations.set(revocations.unwrap_or(i64::MAX));
        let heard = knowledge.heard_at();
        self.last_message.set(heard.map_or(0, Timestamp::as_secs));
    }
}
