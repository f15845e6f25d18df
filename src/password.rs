//! Passwords, from the wire to the stored hash.
//!
//! The type of a password shows which operation is allowed. A [`Password`] is any text that a
//! caller sent and can only be verified. A [`NewPassword`] passed the [`Policy`] and can be
//! hashed. A [`Verified`] password matched a stored hash and can be hashed again at another
//! cost. All of them wipe their memory, and none has `Debug`, so none can be printed.
//!
//! The [`Hasher`] runs bcrypt on its own threads and refuses a hash at once if it could not
//! begin in time. Unknown users, and passwords that no hash can match, take the same path
//! through the queue and cost the same.

mod blocklist;
mod engine;
mod hash;
mod hasher;
#[cfg(test)]
mod kernel_tests;
mod metrics;
mod policy;
mod queue;
mod round_times;
mod self_test;
mod settings;
pub mod stack;

use bcrypt_lanes::Key;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

pub use self::{
    blocklist::{Blocklist, BlocklistError},
    engine::HashError,
    hash::PasswordHash,
    hasher::{Hasher, StartError, Verified},
    policy::{NewPassword, Policy, PolicyError, Weakness},
    settings::Settings,
};

/// bcrypt ignores all further bytes. A longer password is never cut: it matches no hash.
const MAX_BYTES: usize = 72;

/// A password that a caller sent, in Unicode normalisation form C, so that composed and
/// decomposed characters are the same password. It can be any text, also an empty one.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Accepts any text; [`Policy::check`] has the rules for new passwords.
    pub fn new(raw: Zeroizing<String>) -> Self {
        if is_nfc(&raw) {
            return Self(raw);
        }
        // Enough for the worst case (UAX #15), because growing would leave a copy behind.
        let mut normal = Zeroizing::new(String::with_capacity(3 * raw.len()));
        for c in raw.nfc() {
            normal.push(c);
        }
        Self(normal)
    }

    /// The key for bcrypt; `None` if no hash can match this password.
    fn key(&self) -> Option<Key> {
        let possible = !self.0.is_empty() && self.0.len() <= MAX_BYTES && !self.0.contains('\0');
        possible.then(|| Key::new(self.0.as_bytes()))
    }
}

#[cfg(test)]
impl Password {
    fn of(text: &str) -> Self {
        Self::new(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_and_decomposed_text_are_one_password() {
        let composed = Password::of("p\u{e4}ssw\u{f6}rd");
        let decomposed = Password::of("pa\u{308}sswo\u{308}rd");
        assert_eq!(*composed.0, *decomposed.0);
    }

    #[test]
    fn normalising_never_outgrows_the_reserved_capacity() {
        // U+1D160 has the largest growth in UTF-8 under NFC: threefold.
        let raw = "\u{1d160}".repeat(24);
        let password = Password::of(&raw);
        assert_eq!(password.0.len(), 3 * raw.len());
        assert_eq!(password.0.capacity(), 3 * raw.len());
    }

    #[test]
    fn only_text_that_bcrypt_reads_whole_can_match() {
        assert!(Password::of(&"x".repeat(72)).key().is_some());
        for impossible in ["", "nul\0inside", &"x".repeat(73)] {
            assert!(Password::of(impossible).key().is_none());
        }
    }
}
