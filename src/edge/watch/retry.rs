//! How long to wait before the next connection: full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>), so that the edges
//! that lost the same replica do not all return at the same moment.

use std::time::Duration;

/// Between the beginnings of two streams: a service that ends each one at once must not be asked
/// in a busy loop.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Bounded so that, with the time of a connection attempt, the next URL is tried within 3 s.
const LONGEST: Duration = Duration::from_secs(1);

/// Zero without failures: the next URL may work.
pub(super) fn delay(failures: u32) -> Duration {
    part_of(longest(failures))
}

/// Between half and one and a half of the time.
pub(super) fn spread(mean: Duration) -> Duration {
    mean / 2 + part_of(mean)
}

fn longest(failures: u32) -> Duration {
    let steps = 2_u32.saturating_pow(failures).saturating_sub(1);
    INTERVAL.saturating_mul(steps).min(LONGEST)
}

fn part_of(longest: Duration) -> Duration {
    // Without randomness the wait is the longest.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_doubles_with_each_failure_up_to_a_second() {
        let longest = [0, 1, 2, 3, 4, u32::MAX].map(longest);
        assert_eq!(
            longest,
            [0, 100, 300, 700, 1_000, 1_000].map(Duration::from_millis)
        );
    }

    #[test]
    fn a_wait_is_never_longer_than_the_longest() {
        for failures in 0..100 {
            assert!(delay(failures) <= longest(failures));
        }
        let spread = spread(Duration::from_secs(10));
        assert!((5..=15).contains(&spread.as_secs()), "{spread:?}");
    }
}
