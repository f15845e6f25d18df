//! How long rounds take. It is learnt, so that estimates follow a machine that slows down.

use std::time::Duration;

use bcrypt_lanes::LANES;

/// A sample weighs as much as its rounds, against so many: about one hash of cost 12. So a
/// thread that was preempted once does not close the door.
const MEMORY: u32 = 1 << 12;

/// The time of a round, for each number of lanes that go on together.
#[derive(Clone, Copy)]
pub(super) struct Pace([Duration; LANES]);

impl Pace {
    pub(super) const fn new(round: [Duration; LANES]) -> Self {
        Self(round)
    }

    /// The time of `rounds` in one of so many lanes.
    pub(super) fn of(&self, rounds: u64, lanes: usize) -> Duration {
        self.0[lanes - 1].saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    /// Learns from a few rounds of so many lanes.
    pub(super) fn learn(&mut self, lanes: usize, rounds: u32, took: Duration) {
        let round = &mut self.0[lanes - 1];
        *round = (*round * MEMORY.saturating_sub(rounds) + took) / MEMORY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(1);

    #[test]
    fn the_estimate_follows_the_machine() {
        let mut pace = Pace::new([ROUND; LANES]);
        for _ in 0..5 * MEMORY / 16 {
            pace.learn(2, 16, 3 * 16 * ROUND);
        }
        let error = pace.of(1, 2).abs_diff(3 * ROUND);
        assert!(error < ROUND / 50, "{error:?}");
        assert_eq!(pace.of(1, 1), ROUND, "alone it is as it was");
    }

    #[test]
    fn one_preemption_changes_little() {
        let mut pace = Pace::new([ROUND; LANES]);
        pace.learn(1, 16, 10 * 16 * ROUND);
        assert!(pace.of(1, 1) < ROUND * 105 / 100);
    }

    #[test]
    fn no_number_of_rounds_overflows() {
        assert!(Pace::new([ROUND; LANES]).of(u64::MAX, 1) > Duration::from_hours(1000));
    }
}
