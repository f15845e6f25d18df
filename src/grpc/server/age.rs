//! The age at which a connection gets GOAWAY.
//!
//! After a start or a failover many connections begin at the same moment. If all had the same
//! age, all clients would also reconnect at the same moment, again and again. gRPC's
//! implementations spread the age by 10 % for this reason
//! (<https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md>).

use std::time::Duration;

/// The age of one connection or stream: `mean` ± 10 %. Without randomness it is the mean.
pub fn random_age(mean: Duration) -> Duration {
    spread(mean, getrandom::u32().unwrap_or(u32::MAX / 2))
}

/// `random` is uniform over all `u32`.
fn spread(mean: Duration, random: u32) -> Duration {
    mean.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const MEAN: Duration = Duration::from_mins(5);

    #[test]
    fn the_age_is_spread_by_10_percent_around_the_mean() {
        assert_eq!(spread(MEAN, 0), Duration::from_secs(270));
        assert_eq!(spread(MEAN, u32::MAX), Duration::from_secs(330));
        let middle = spread(MEAN, u32::MAX / 2);
        assert!(
            middle.abs_diff(MEAN) < Duration::from_millis(1),
            "{middle:?}"
        );
    }

    #[test]
    fn each_connection_has_an_age_of_its_own() {
        let ages: HashSet<_> = (0..60).map(|_| random_age(MEAN)).collect();
        assert!(ages.len() > 50, "{} ages", ages.len());
    }

    proptest! {
        #[test]
        fn a_larger_number_is_a_later_age(one: u32, other: u32) {
            let (earlier, later) = (one.min(other), one.max(other));
            prop_assert!(spread(MEAN, earlier) <= spread(MEAN, later));
        }
    }
}
