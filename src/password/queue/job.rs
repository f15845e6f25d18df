use bcrypt_lanes::{Digest, Work};
use tokio::sync::oneshot;

use crate::password::{Began, metrics::Waiting};

/// The way back to the caller of a hash, with the metrics of its state.
pub(in crate::password) type Reply<State> = (oneshot::Sender<Digest>, State);

pub(in crate::password) struct Job {
    pub(in crate::password) work: Work,
    pub(in crate::password) purpose: Purpose,
    pub(in crate::password) began: Began,
    pub(in crate::password) reply: Reply<Waiting>,
}

/// The two classes of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A device on which the account logged in before, or a signed-in user.
    KnownDevice,
    Other,
}

/// The reason for a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::password) enum Purpose {
    /// A caller waits for it.
    Answer(Priority),
    /// A stored hash gets the configured cost. This can be done at another time and must not
    /// delay a caller: upgrades are refused unless half of the lanes are free.
    Upgrade,
}

impl Purpose {
    pub(in crate::password) const ALL: [Self; 3] = [
        Self::Answer(Priority::KnownDevice),
        Self::Answer(Priority::Other),
        Self::Upgrade,
    ];

    pub(super) const fn priority(self) -> Priority {
        match self {
            Self::Answer(priority) => priority,
            // It finds a free lane.
            Self::Upgrade => Priority::Other,
        }
    }

    /// For metrics.
    pub(in crate::password) const fn word(self) -> &'static str {
        match self {
            Self::Answer(Priority::KnownDevice) => "known_device",
            Self::Answer(Priority::Other) => "other",
            Self::Upgrade => "upgrade",
        }
    }
}
