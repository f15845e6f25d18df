//! The state of a pass over the backlog between two ticks, see [`crate::outbox`].

use super::publisher::{BatchInPass, PublishError, Published};

/// The batches of a pass without a fault. Rows that become visible behind it wait for the next one,
/// also while the backlog grows as fast as it is read.
const LONGEST: u32 = 64;

#[derive(Debug, Default)]
pub(super) enum Pass {
    #[default]
    New,
    Resumed {
        /// The row id after which the next batch begins.
        after: i64,
        /// The batches before it.
        batches: u32,
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

    /// The pass after a batch was published. `last_of_full` is [`Batch::last_of_full`]. An error
    /// is the end of a pass that had a fault.
    ///
    /// [`Batch::last_of_full`]: crate::model::Batch::last_of_full
    pub(super) fn advance(
        self,
        published: Published,
        last_of_full: Option<i64>,
    ) -> Result<Self, PublishError> {
        let (batches, earlier_fault) = match self {
            Self::New => (1, None),
            Self::Resumed { batches, fault, .. } => (batches + 1, fault),
        };
        let fault = earlier_fault.or(published.fault);
        let may_go_on = batches < LONGEST || fault.is_some();
        match last_of_full.filter(|_| may_go_on && !published.unreachable) {
            Some(after) => Ok(Self::Resumed {
                after,
                batches,
                fault,
            }),
            None => fault.map_or(Ok(Self::New), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn a_pass_with_a_fault_goes_on_to_the_end_of_the_backlog_and_ends_with_its_first_fault() {
        let pass = Pass::New.advance(with(fault(1)), Some(1_000));
        let pass = pass.expect("more");
        assert_eq!(pass.resume_position(), 1_000);
        let pass = pass.advance(with(fault(2)), Some(2_000)).expect("more");
        assert_eq!(pass.resume_position(), 2_000);
        let end = pass.advance(Published::default(), None).unwrap_err();
        assert_eq!(end.to_string(), fault(1).to_string());
    }

    #[test]
    fn a_pass_without_a_fault_ends_with_the_backlog_or_after_64_batches() {
        let pass = Pass::New.advance(Published::default(), Some(1_000));
        let pass = pass.expect("no fault");
        assert_eq!(pass.resume_position(), 1_000);
        let end = pass.advance(Published::default(), None).expect("no fault");
        assert_eq!(end.resume_position(), i64::MIN);

        let mut pass = Pass::New;
        for after in 1..64 {
            let next = pass.advance(Published::default(), Some(after));
            pass = next.expect("no fault");
            assert_eq!(pass.resume_position(), after);
        }
        let end = pass.advance(Published::default(), Some(64));
        assert_eq!(end.expect("no fault").resume_position(), i64::MIN);
    }

    #[test]
    fn a_pass_ends_at_once_when_the_cluster_is_unreachable() {
        let published = Published::unreachable(fault(1));
        Pass::New.advance(published, Some(1_000)).unwrap_err();
    }
}
