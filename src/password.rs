//! Passwords, from the wire to the stored hash.
//!
//! The types say what may be done: a [`Password`] is whatever a caller typed and can only
//! be verified; a [`NewPassword`] passed the [`Policy`] and may be hashed; a [`Verified`]
//! one matched a stored hash and may be hashed again at another cost. All of them wipe
//! their memory and none can be printed.
//!
//! The [`Hasher`] runs bcrypt on its own threads and refuses at once what it could not
//! begin in time. An unknown user, and a password that no hash can match, take the same
//! way through the queue and pay the same.

mod blocklist;
mod engine;
mod hash;
mod hasher;
mod metrics;
#[cfg(test)]
mod oracle;
mod policy;
mod queue;
mod reply;
mod round_times;
mod self_test;
mod settings;

use std::fmt;

use bcrypt_lanes::Key;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

pub use self::{
    blocklist::{Blocklist, BlocklistError},
    engine::HashError,
    hash::{MalformedHash, PasswordHash},
    hasher::{Hasher, StartError, Verified},
    policy::{NewPassword, Policy, PolicyError, Weakness},
    settings::Settings,
};

/// bcrypt reads no further: a longer password would be cut, so it never matches.
const MAX_BYTES: usize = 72;

/// What a caller typed, in Unicode normalisation form C, so that the same text typed on
/// another keyboard is the same password. Nothing else is promised: it may be empty.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes any text; the policy for new passwords is [`Policy::check`].
    #[must_use]
    pub fn new(raw: Zeroizing<String>) -> Self {
        if is_nfc(&raw) {
            return Self(raw);
        }
        // Room for the worst case (UAX #15), since growing would leave a copy behind.
        let mut normal = Zeroizing::new(String::with_capacity(3 * raw.len()));
        for c in raw.nfc() {
            normal.push(c);
        }
        Self(normal)
    }

    /// What bcrypt hashes; `None` if this can be nobody's password.
    fn key(&self) -> Option<Key> {
        let possible = !self.0.is_empty() && self.0.len() <= MAX_BYTES && !self.0.contains('\0');
        possible.then(|| Key::new(self.0.as_bytes()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
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
    fn normalising_never_outgrows_the_room_it_reserved() {
        // U+1D160 has the largest growth in UTF-8 under NFC: threefold.
        let raw = "\u{1d160}".repeat(24);
        let password = Password::of(&raw);
        assert_eq!(password.0.len(), 3 * raw.len());
        assert_eq!(password.0.capacity(), 3 * raw.len());
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Password::of("hunter2")), "Password(..)");
    }

    #[test]
    fn only_text_that_bcrypt_reads_whole_can_match() {
        assert!(Password::of(&"x".repeat(72)).key().is_some());
        for impossible in ["", "nul\0inside", &"x".repeat(73)] {
            assert!(Password::of(impossible).key().is_none());
        }
    }
}
