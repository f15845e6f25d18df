//! The bytes of a connection that have been stalled for a while.

use std::time::Duration;

use tokio::time::Instant;

/// A peer that reads needs less for what is on the way to it.
pub const A_WHILE: Duration = Duration::from_secs(1);

/// The least number of a while. A peer cannot lower it by stalling others of its bytes.
pub struct Lasting {
    begin: Instant,
    /// The least number in the time before `begin`, which was a while or longer.
    earlier: usize,
    /// The least number since `begin`.
    least: usize,
    latest: usize,
}

impl Lasting {
    pub fn new(now: Instant) -> Self {
        Self {
            begin: now,
            earlier: 0,
            least: 0,
            latest: 0,
        }
    }

    pub fn set(&mut self, bytes: usize, now: Instant) {
        if now - self.begin >= A_WHILE {
            self.earlier = self.get(now);
            self.least = self.latest;
            self.begin = now;
        }
        self.least = self.least.min(bytes);
        self.latest = bytes;
    }

    pub fn get(&self, now: Instant) -> usize {
        match now - self.begin {
            // The latest number was set within the first while.
            long if long >= 2 * A_WHILE => self.latest,
            long if long >= A_WHILE => self.least,
            _ => self.least.min(self.earlier),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_count_after_a_while() {
        let start = Instant::now();
        let mut lasting = Lasting::new(start);
        lasting.set(5, start);
        assert_eq!(lasting.get(start + A_WHILE / 2), 0);
        assert_eq!(lasting.get(start + 2 * A_WHILE), 5);
    }

    #[test]
    fn bytes_that_come_and_go_hide_no_others() {
        let start = Instant::now();
        let mut lasting = Lasting::new(start);
        for step in 0..100 {
            let bytes = [1000, 1010][step as usize % 2];
            lasting.set(bytes, start + step * A_WHILE / 10);
        }
        assert_eq!(lasting.get(start + 10 * A_WHILE), 1000);
    }

    proptest! {
        /// Against the least of all numbers of the last one, two or three whiles.
        #[test]
        fn it_is_the_least_number_of_a_while(changes in prop::collection::vec((0..10_usize, 0..30_u32), 1..50)) {
            let start = Instant::now();
            let (mut lasting, mut history, mut now) = (Lasting::new(start), vec![(start, 0)], start);
            for (bytes, tenths) in changes {
                now += A_WHILE * tenths / 10;
                lasting.set(bytes, now);
                history.push((now, bytes));
                let least_of = |time: Duration| {
                    let from = now.checked_sub(time).unwrap_or(start).max(start);
                    // The number at `from` was set before it.
                    let first = history.iter().rposition(|&(at, _)| at < from).unwrap_or(0);
                    history[first..].iter().map(|&(_, bytes)| bytes).min().unwrap_or(0)
                };
                let got = lasting.get(now);
                prop_assert!(got <= least_of(A_WHILE));
                prop_assert!(got >= least_of(3 * A_WHILE));
            }
        }
    }
}
