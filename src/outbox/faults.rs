//! The wait after a tick, and when a fault is logged.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::{Error, Outcome, backoff};
use crate::telemetry::Causes;

/// The maximum delay until the lease holder sees a commit of another replica.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);

/// The maximum delay until a released lease is taken over.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// A fault that lasts is logged again after this many failed ticks: at the longest back-off,
/// every few minutes.
const REPEAT_AFTER: u32 = 20;

#[derive(Default)]
pub(super) struct Faults {
    in_a_row: u32,
    logged: Option<String>,
}

impl Faults {
    /// The wait before the next tick. Logs a fault if it is new or due again, and its end.
    pub(super) fn wait_after(&mut self, tick: &Result<Outcome, Error>) -> Option<Duration> {
        match tick {
            Ok(outcome) => {
                self.end();
                match outcome {
                    Outcome::Progress => None,
                    Outcome::Idle => Some(IDLE_INTERVAL),
                    Outcome::Standby => Some(STANDBY_INTERVAL),
                }
            }
            Err(error) => {
                self.log(&Causes(error).to_string());
                let random = getrandom::u32().unwrap_or(u32::MAX);
                Some(backoff::delay(self.in_a_row, random))
            }
        }
    }

    fn end(&mut self) {
        if self.logged.take().is_some() {
            info!("publishing events again");
        }
        self.in_a_row = 0;
    }

    fn log(&mut self, fault: &str) {
        if self.is_due(fault) {
            warn!(
                error = fault,
                "cannot publish events; they wait in the outbox"
            );
        } else {
            debug!(error = fault, "still cannot publish events");
        }
    }

    fn is_due(&mut self, fault: &str) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let repeat = self.in_a_row.is_multiple_of(REPEAT_AFTER);
        self.logged.replace(fault.to_owned()).as_deref() != Some(fault) || repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_fault_is_logged_at_once_and_then_from_time_to_time() {
        let mut faults = Faults::default();
        let logged = (1..=2 * REPEAT_AFTER).filter(|_| faults.is_due("no broker"));
        assert!(logged.eq([1, REPEAT_AFTER, 2 * REPEAT_AFTER]));
        assert!(faults.is_due("no topic") && !faults.is_due("no topic"));
    }
}
