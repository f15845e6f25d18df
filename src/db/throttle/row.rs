//! A row to insert, or the change of a row in [`SETTLE`](super::sql::SETTLE).

use std::time::Duration;

use super::{Attempt, Count};
use crate::model::{THROTTLE_DAY, Timestamp};

pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) free_from: i64,
    pub(super) blocked_until: i64,
    pub(super) day_failures: i64,
    pub(super) day_ends_at: i64,
    pub(super) known_until: i64,
}

impl Row {
    /// A counter with its first failure.
    pub(super) fn first(count: Count, attempt: &Attempt<'_>) -> Self {
        let (now, fade) = (attempt.now.as_micros(), micros(attempt.limits.fade));
        let is_account = attempt.account == Some(count);
        let blocked_until = now + micros(attempt.limits.first_wait);
        Self {
            key: count.key.to_vec(),
            free_from: now + (2 - i64::from(count.free)) * fade,
            blocked_until: if count.free > 1 { 0 } else { blocked_until },
            day_failures: i64::from(is_account),
            day_ends_at: if is_account {
                now + micros(THROTTLE_DAY)
            } else {
                0
            },
            known_until: 0,
        }
    }

    /// Clears a counter. The failures of the day stay, except this one if it was counted.
    pub(super) fn cleared(key: &[u8], is_counted: bool) -> Self {
        Self {
            day_failures: i64::from(is_counted),
            ..Self::taken_back(key, Duration::ZERO, 0, false)
        }
    }

    pub(super) fn known(self, until: Timestamp) -> Self {
        Self {
            known_until: until.as_micros(),
            ..self
        }
    }

    /// Takes back one failure, and the block that it caused.
    pub(super) fn taken_back(
        key: &[u8],
        fade: Duration,
        blocked_until: i64,
        is_account: bool,
    ) -> Self {
        Self {
            key: key.to_vec(),
            free_from: micros(fade),
            blocked_until,
            day_failures: i64::from(is_account),
            day_ends_at: 0,
            known_until: 0,
        }
    }
}

/// The unit of time in the table.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
