//! How many lines of one kind are written in full.

/// The lines of a kind that one interval may have without being a flood.
pub(super) const FEW: u64 = 20;

/// The first few lines of an interval are written in full, the others are counted. After an
/// interval with more lines than that, every line is counted until the flood has ended, so that
/// a lasting flood is one line in each interval: its sum.
#[derive(Debug, Default)]
pub(super) struct Rate {
    lines: u64,
    left_out: u64,
    is_flood: bool,
}

impl Rate {
    /// Counts a line. Whether it is written in full.
    pub(super) fn count(&mut self) -> bool {
        self.lines += 1;
        let in_full = !self.is_flood && self.lines <= FEW;
        self.left_out += u64::from(!in_full);
        in_full
    }

    /// Ends an interval. The number of lines that it left out.
    pub(super) fn end_interval(&mut self) -> u64 {
        let ended = std::mem::take(self);
        self.is_flood = ended.lines > FEW;
        ended.left_out
    }

    /// Whether a new `Rate` would do the same.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.lines == 0 && !self.is_flood
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines in full, and the sum, of an interval with so many lines.
    fn interval(rate: &mut Rate, lines: u64) -> (u64, u64) {
        let in_full = (0..lines).filter(|_| rate.count()).count();
        (in_full as u64, rate.end_interval())
    }

    #[test]
    fn the_first_few_lines_are_in_full_and_a_lasting_flood_is_one_sum_an_interval() {
        let mut rate = Rate::default();
        assert_eq!(interval(&mut rate, FEW), (FEW, 0));
        assert_eq!(interval(&mut rate, 3000), (FEW, 3000 - FEW));
        assert_eq!(interval(&mut rate, 3000), (0, 3000));
        assert_eq!(interval(&mut rate, 5), (0, 5));
        assert_eq!(interval(&mut rate, 5), (5, 0));
    }

    proptest! {
        #[test]
        fn no_line_is_lost(intervals in prop::collection::vec(0..100_u64, 0..50)) {
            let mut rate = Rate::default();
            for lines in intervals {
                let (in_full, left_out) = interval(&mut rate, lines);
                prop_assert_eq!(in_full + left_out, lines);
                prop_assert!(in_full <= FEW);
            }
        }
    }
}
