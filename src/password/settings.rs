use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::Blocklist;

/// The settings of [`Hasher`](super::Hasher) and [`Policy`](super::Policy).
#[derive(Clone, Debug)]
pub struct Settings {
    /// bcrypt's cost of new hashes: `2^cost` rounds, 4 to 31.
    pub cost: u32,
    /// Hashing threads, and threads that check new passwords; one of each per core is best.
    pub threads: NonZeroUsize,
    /// The longest a call waits for a free hash lane, or for its password to be checked.
    pub max_wait: Duration,
    /// The lowest score of a new password by zxcvbn's bounds, 0 to 4.
    pub min_score: u8,
    /// Words that an attacker tries first, such as the product's name.
    pub context_words: Vec<String>,
    /// Passwords that cannot be set; `None` for no list.
    pub blocklist: Option<Arc<Blocklist>>,
}
