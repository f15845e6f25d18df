//! How long a round takes. It is measured all the time, so that estimates follow a machine
//! that becomes slower.

use std::time::Duration;

/// The weight of old measurements in the moving average, in rounds: one hash of cost 12. With
/// fewer, a thread that was preempted once would make the queue refuse calls.
const MEMORY: u32 = 1 << 12;

/// The time of a round, for each number of lanes that advance together.
pub(super) struct RoundTimes(Vec<Duration>);

impl RoundTimes {
    /// The first time is that of a single lane, the last one that of all lanes of a thread.
    pub(super) const fn new(times: Vec<Duration>) -> Self {
        Self(times)
    }

    /// The lanes of a thread.
    pub(super) const fn lanes(&self) -> usize {
        self.0.len()
    }

    /// The time of `rounds` rounds while `lanes` lanes are in use.
    pub(super) fn estimate(&self, rounds: u64, lanes: usize) -> Duration {
        self.0[lanes - 1].saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    /// Adds a measurement, which weighs as much as its rounds.
    pub(super) fn learn(&mut self, lanes: usize, rounds: u32, took: Duration) {
        let time = &mut self.0[lanes - 1];
        *time = (*time * MEMORY.saturating_sub(rounds) + took) / MEMORY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(1);

    #[test]
    fn the_estimate_follows_the_machine() {
        let mut times = RoundTimes::new(vec![ROUND; 2]);
        for _ in 0..5 * MEMORY / 16 {
            times.learn(2, 16, 3 * 16 * ROUND);
        }
        let error = times.estimate(1, 2).abs_diff(3 * ROUND);
        assert!(error < ROUND / 50, "{error:?}");
        assert_eq!(times.estimate(1, 1), ROUND, "one lane is as fast as before");
    }

    #[test]
    fn one_preemption_changes_little() {
        let mut times = RoundTimes::new(vec![ROUND; 2]);
        times.learn(1, 16, 10 * 16 * ROUND);
        assert!(times.estimate(1, 1) < ROUND * 105 / 100);
    }

    #[test]
    fn no_number_of_rounds_overflows() {
        let times = RoundTimes::new(vec![ROUND; 2]);
        assert!(times.estimate(u64::MAX, 1) > Duration::from_hours(1000));
    }
}
