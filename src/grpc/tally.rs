//! What may happen often is told now and then: a flood of it must not flood the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(10);

/// How often something happened.
#[derive(Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Default)]
struct State {
    count: u64,
    told: Option<Instant>,
}

impl Tally {
    /// Counts one more. How many they are, if it is time to say so.
    pub(super) fn add(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.told.is_some_and(|at| at.elapsed() < INTERVAL) {
            return None;
        }
        state.told = Some(Instant::now());
        Some(state.count)
    }
}
