//! The way back to the caller of a hash, with the metrics of its state.

use bcrypt_lanes::Digest;
use tokio::sync::oneshot;

use super::metrics::{Busy, Waiting};

/// The caller of a hash that waits for a lane.
pub(super) struct Reply {
    answer: oneshot::Sender<Digest>,
    waiting: Waiting,
}

/// The caller of a hash that has a lane.
pub(super) struct RunningReply {
    answer: oneshot::Sender<Digest>,
    busy: Busy,
}

impl Reply {
    pub(super) const fn new(answer: oneshot::Sender<Digest>, waiting: Waiting) -> Self {
        Self { answer, waiting }
    }

    /// The hash gets a lane.
    pub(super) fn begin(self, cost: u32) -> RunningReply {
        RunningReply {
            answer: self.answer,
            busy: self.waiting.end(cost),
        }
    }
}

impl RunningReply {
    /// Whether the caller still waits for the hash.
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    pub(super) fn send(self, digest: Digest) {
        self.busy.computed();
        // Fails if the caller stopped waiting in the meantime.
        self.answer.send(digest).ok();
    }
}
