//! The back-off between attempts: full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>) with a minimum,
//! so that a fault never becomes a busy loop.

use std::time::Duration;

/// The shortest pause, and the longest one after many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    shortest: Duration,
    longest: Duration,
}

/// For most faults: people wait for these mails.
pub const FAULT: Pauses = Pauses {
    shortest: Duration::from_millis(200),
    longest: Duration::from_secs(15),
};

/// For a recipient that is put off: until its server is there or has room.
pub const PUT_OFF: Pauses = Pauses {
    shortest: Duration::from_secs(1),
    longest: Duration::from_mins(5),
};

/// After a claim that may have counted. All three must not fall into one outage.
pub const CLAIM: Pauses = Pauses {
    shortest: Duration::from_mins(1),
    longest: Duration::from_mins(10),
};

#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub fn pause(&mut self, pauses: Pauses) -> Duration {
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let pause = delay(pauses, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Whether to log this failure: the 1st, 2nd, 4th, 8th ..
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.failures.is_power_of_two()
    }
}

/// The wait after this many earlier failures. `random` is uniform over all `u32`.
fn delay(pauses: Pauses, failures: u32, random: u32) -> Duration {
    let Pauses { shortest, longest } = pauses;
    let cap = shortest
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(longest);
    let part = f64::from(random) / f64::from(u32::MAX);
    shortest + cap.saturating_sub(shortest).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_doubles_with_each_failure_up_to_the_maximum() {
        let longest = [0, 1, 2, 6, 7, u32::MAX].map(|failures| delay(FAULT, failures, u32::MAX));
        let expected = [200, 400, 800, 12_800, 15_000, 15_000];
        assert_eq!(longest, expected.map(Duration::from_millis));
        assert_eq!(delay(FAULT, u32::MAX, 0), Duration::from_millis(200));
    }

    #[test]
    fn the_three_claims_of_a_request_are_minutes_apart() {
        let shortest: Duration = (0..2).map(|failures| delay(CLAIM, failures, 0)).sum();
        assert_eq!(shortest, Duration::from_mins(2));
    }
}
