//! A counter for rate-limited log lines: a flood of an event must not flood the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct RateLimitedCounter(Mutex<State>);

#[derive(Default)]
struct State {
    count: u64,
    logged_at: Option<Instant>,
}

impl RateLimitedCounter {
    /// Counts an event, and returns the count if a log line is due.
    pub(super) fn add(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.logged_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return None;
        }
        state.logged_at = Some(Instant::now());
        Some(state.count)
    }
}
