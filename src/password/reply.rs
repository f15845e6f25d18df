//! Who wants a hash: first while it waits for a lane, then while it has one.

use bcrypt_lanes::Digest;
use tokio::sync::oneshot;

use super::metrics::{Busy, Waiting};

/// The way back to a caller whose hash waits.
pub(super) struct Reply {
    answer: oneshot::Sender<Digest>,
    waiting: Waiting,
}

/// The way back to a caller whose hash has a lane.
pub(super) struct Seated {
    answer: oneshot::Sender<Digest>,
    busy: Busy,
}

impl Reply {
    pub(super) const fn new(answer: oneshot::Sender<Digest>, waiting: Waiting) -> Self {
        Self { answer, waiting }
    }

    /// The wait is over.
    pub(super) fn seated(self, cost: u32) -> Seated {
        Seated {
            answer: self.answer,
            busy: self.waiting.over(cost),
        }
    }
}

impl Seated {
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    pub(super) fn done(self, digest: Digest) {
        self.busy.computed();
        // The caller may have gone away.
        self.answer.send(digest).ok();
    }
}
