//! The state of a pass over the backlog between two ticks, see [`crate::outbox`].

use std::time::{Duration, Instant};

use super::publisher::{BatchInPass, PublishError, Published};

/// The time for which a pass without a fault begins batches. Rows that become visible behind it wait
/// for the next pass, also while the backlog grows as fast as it is read.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) enum Pass {
    #[default]
    New,
    Resumed {
        /// The row id after which the next batch begins.
        after: i64,
        /// A pass without a fault begins no batch after this time.
        until: Instant,
        /// The first fault of the pass, with which it will end.
        fault: Option<PublishError>,
    },
}

impl Pass {
    /// The row id after which the next batch begins.
    pub(super) fn resume_position(&self) -> i64 {
        match self {
            Self::New => i64::MIN,
            Self::Resumed { after, .. } => *after,
        }
    }

    pub(super) fn next_batch(&self) -> BatchInPass {
        match self {
            Self::New => BatchInPass::First,
            Self::Resumed { .. } => BatchInPass::Later,
        }
    }

    /// The pass after a batch of `count` events was published. `last_of_full` is
    /// [`Batch::last_of_full`]. An error is the end of a pass that had a fault.
    ///
    /// [`Batch::last_of_full`]: crate::model::Batch::last_of_full
    pub(super) fn advance(
        self,
        count: usize,
        published: Published,
        last_of_full: Option<i64>,
        now: Instant,
    ) -> Result<Self, PublishError> {
        // Events that were left out without a fault, for lack of time, are tried again at once.
        let settled = published.settled() == count;
        let (until, earlier_fault) = match self {
            Self::New => (now + LONGEST, None),
            Self::Resumed { until, fault, .. } => (until, fault),
        };
        let fault = earlier_fault.or(published.fault);
        let goes_on = match fault {
            Some(_) => !published.unreachable,
            None => settled && now <= until,
        };
        match last_of_full.filter(|_| goes_on) {
            Some(after) => Ok(Self::Resumed {
                after,
                until,
                fault,
            }),
            None => fault.map_or(Ok(Self::New), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(seconds: u64) -> PublishError {
        PublishError::Timeout(Duration::from_secs(seconds))
    }

    fn with(fault: PublishError) -> Published {
        Published {
            fault: Some(fault),
            ..Published::default()
        }
    }

    fn acknowledged(count: i64) -> Published {
        Published {
            acknowledged: (0..count).collect(),
            ..Published::default()
        }
    }

    #[test]
    fn a_pass_with_a_fault_goes_on_to_the_end_of_the_backlog_and_ends_with_its_first_fault() {
        let now = Instant::now();
        let pass = Pass::New.advance(1_000, with(fault(1)), Some(1_000), now);
        let pass = pass.expect("more");
        assert_eq!(pass.resume_position(), 1_000);
        let later = now + 2 * LONGEST;
        let pass = pass.advance(1_000, with(fault(2)), Some(2_000), later);
        let pass = pass.expect("more");
        assert_eq!(pass.resume_position(), 2_000);
        let end = pass.advance(3, acknowledged(3), None, later).unwrap_err();
        assert_eq!(end.to_string(), fault(1).to_string());
    }

    #[test]
    fn a_pass_without_a_fault_goes_on_to_the_end_of_the_backlog_but_not_for_long() {
        let now = Instant::now();
        let begun = || {
            let pass = Pass::New.advance(1_000, acknowledged(1_000), Some(1_000), now);
            pass.expect("no fault")
        };
        assert_eq!(begun().resume_position(), 1_000);
        for (last_of_full, now, position) in [
            (Some(2_000), now + LONGEST, 2_000),
            (Some(2_000), now + 2 * LONGEST, i64::MIN),
            (None, now, i64::MIN),
        ] {
            let pass = begun().advance(1_000, acknowledged(1_000), last_of_full, now);
            assert_eq!(pass.expect("no fault").resume_position(), position);
        }
    }

    #[test]
    fn events_that_were_left_out_without_a_fault_are_read_again_at_once() {
        let pass = Pass::New.advance(1_000, acknowledged(999), Some(1_000), Instant::now());
        assert_eq!(pass.expect("no fault").resume_position(), i64::MIN);
    }

    #[test]
    fn a_pass_ends_at_once_when_the_cluster_is_unreachable() {
        let published = Published::unreachable(fault(1));
        let end = Pass::New.advance(1_000, published, Some(1_000), Instant::now());
        end.unwrap_err();
    }
}
