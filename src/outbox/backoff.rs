//! The back-off after failed ticks: full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
//!
//! The wait is random below a cap that doubles with each failure, so that replicas and
//! services that lost the same broker do not all return to it at the same moment. Unlike in
//! the article, a wait has a minimum, so that the poller never becomes a busy loop.

use std::time::Duration;

/// Equals the idle interval of the poller.
const MIN: Duration = Duration::from_millis(200);

/// The maximum delay of the first event after the broker is back.
const MAX: Duration = Duration::from_secs(30);

/// The wait after this many failures in a row. `random` is uniform over all `u32`.
pub fn delay(failures: u32, random: u32) -> Duration {
    let cap = MIN.saturating_mul(2_u32.saturating_pow(failures)).min(MAX);
    let part = f64::from(random) / f64::from(u32::MAX);
    MIN + cap.saturating_sub(MIN).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_wait_doubles_with_each_failure_up_to_the_maximum() {
        let longest = [0, 1, 2, 3, 7, 8, u32::MAX].map(|failures| delay(failures, u32::MAX));
        let expected = [200, 400, 800, 1_600, 25_600, 30_000, 30_000];
        assert_eq!(longest, expected.map(Duration::from_millis));
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_minimum_and_maximum(failures: u32, random: u32) {
            let delay = delay(failures, random);
            prop_assert!((MIN..=MAX).contains(&delay));
        }

        #[test]
        fn a_wait_is_spread_over_the_whole_range(failures in 1_u32..100) {
            let middle = (MIN + delay(failures, u32::MAX)) / 2;
            prop_assert_eq!(delay(failures, 0), MIN);
            prop_assert!(delay(failures, u32::MAX / 2).abs_diff(middle) < Duration::from_millis(1));
        }
    }
}
