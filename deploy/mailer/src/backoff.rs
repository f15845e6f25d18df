//! The back-off between attempts: full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>) with a minimum,
//! so that a fault never becomes a busy loop.

use std::time::Duration;

const MIN: Duration = Duration::from_millis(200);

/// The longest time between the end of a fault and the next attempt. People wait for these
/// mails.
const MAX: Duration = Duration::from_secs(15);

#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub fn pause(&mut self) -> Duration {
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let pause = delay(self.failures, random);
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
fn delay(failures: u32, random: u32) -> Duration {
    let cap = MIN.saturating_mul(2_u32.saturating_pow(failures)).min(MAX);
    let part = f64::from(random) / f64::from(u32::MAX);
    MIN + cap.saturating_sub(MIN).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_doubles_with_each_failure_up_to_the_maximum() {
        let longest = [0, 1, 2, 6, 7, u32::MAX].map(|failures| delay(failures, u32::MAX));
        let expected = [200, 400, 800, 12_800, 15_000, 15_000];
        assert_eq!(longest, expected.map(Duration::from_millis));
        assert_eq!(delay(u32::MAX, 0), MIN);
    }
}
