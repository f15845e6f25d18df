use bcrypt_lanes::{Digest, Work};
use tokio::sync::oneshot;

use crate::{
    model::UserId,
    password::{Began, metrics::Waiting},
};

/// The way back to the caller of a hash, with the metrics of its state.
pub(in crate::password) type Reply<State> = (oneshot::Sender<Digest>, State);

pub(in crate::password) struct Job {
    pub(in crate::password) work: Work,
    pub(in crate::password) purpose: Purpose,
    pub(in crate::password) began: Began,
    pub(in crate::password) reply: Reply<Waiting>,
}

/// The claim of a caller to go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A device on which this account logged in before, or its signed-in user. Only a few jobs
    /// of an account can wait so; further ones count as [`Priority::Other`].
    KnownDevice(UserId),
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

/// The two classes of jobs that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    KnownDevices,
    Others,
}

impl Purpose {
    pub(in crate::password) const WORDS: [&str; 3] = ["known_device", "other", "upgrade"];

    /// For metrics.
    pub(in crate::password) const fn word(self) -> &'static str {
        let [known_device, other, upgrade] = Self::WORDS;
        match self {
            Self::Answer(Priority::KnownDevice(_)) => known_device,
            Self::Answer(Priority::Other) => other,
            Self::Upgrade => upgrade,
        }
    }

    pub(super) const fn class(self) -> Class {
        match self {
            Self::Answer(Priority::KnownDevice(_)) => Class::KnownDevices,
            // An upgrade finds a free lane.
            Self::Answer(Priority::Other) | Self::Upgrade => Class::Others,
        }
    }
}
