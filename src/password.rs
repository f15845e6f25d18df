//! Passwords, from the wire to the stored hash.
//!
//! The type of a password shows which operation is allowed. A [`Password`] is any text that a
//! caller sent and can only be verified. A [`NewPassword`] passed the [`Policy`] and can be
//! hashed. A [`Verified`] password matched a stored hash and can be hashed again at another
//! cost. All of them wipe their memory, and none has `Debug`, so none can be printed.
//!
//! The [`Hasher`] runs bcrypt on its own threads and refuses a hash at once if it could not
//! begin in time. Unknown users, imported hashes of a low cost, and passwords that no hash can
//! match, take the same path through the queue and cost the same. Only a stored hash of a higher
//! cost than the configured one takes longer, until a login replaces it.

mod began;
mod blocklist;
mod cache;
mod checkers;
mod engine;
mod guessability;
mod hash;
mod hasher;
mod imported;
#[cfg(test)]
mod kernel_tests;
mod metrics;
mod opaque_string;
mod policy;
mod queue;
mod round_times;
mod self_test;
mod settings;
pub mod stack;
mod verified;

use bcrypt_lanes::Key;
use zeroize::Zeroizing;

use self::opaque_string::is_freeform;
pub use self::{
    began::Began,
    blocklist::{Blocklist, BlocklistError},
    cache::lanes,
    engine::HashError,
    hash::PasswordHash,
    hasher::{Hasher, Request, StartError},
    imported::ImportedHashError,
    policy::{NewPassword, Policy, PolicyError, Weakness},
    queue::Priority,
    settings::Settings,
    verified::Verified,
};

/// Whether a secret that should be random is made of words or a pattern, at its beginning and at
/// its end.
pub fn is_guessable(secret: &str) -> bool {
    let words = guessability::known_words("", &["realchat".to_owned(), "secret".to_owned()]);
    let reversed: String = secret.chars().rev().collect();
    let ends = [secret, &reversed];
    !ends
        .iter()
        .any(|end| guessability::withstands(end, 4, &words))
}

/// bcrypt ignores all further bytes. A longer password is never cut: it matches no hash.
const MAX_BYTES: usize = 72;

/// A password that a caller sent, in the normal form of `opaque_string`, so that different
/// keyboards write the same password. It can be any text, also an empty one.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Accepts any text; [`Policy::check`] has the rules for new passwords.
    pub fn new(raw: Zeroizing<String>) -> Self {
        Self(opaque_string::normalise(raw))
    }

    /// The key for bcrypt; `None` if no hash can match this password.
    fn key(&self) -> Option<Key> {
        let text = self.0.as_str();
        let possible = !text.is_empty() && text.len() <= MAX_BYTES && is_freeform(text);
        possible.then(|| Key::new(text.as_bytes()))
    }

    /// The key of its NFD form, if that differs and a hash can match it. A form of more than 72
    /// bytes matches none: other systems have cut it, and a cut password is never accepted.
    fn decomposed_key(&self) -> Option<Key> {
        self.key()?;
        let text = opaque_string::decompose(&self.0)?;
        (text.len() <= MAX_BYTES).then(|| Key::new(text.as_bytes()))
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
    fn only_text_that_bcrypt_reads_whole_can_match() {
        assert!(Password::of(&"x".repeat(72)).key().is_some());
        for impossible in ["", "nul\0inside", "a line\n", &"x".repeat(73)] {
            assert!(Password::of(impossible).key().is_none());
            assert!(Password::of(impossible).decomposed_key().is_none());
        }
    }

    #[test]
    fn an_nfd_form_that_other_systems_have_cut_cannot_match() {
        let of_bytes = |length: usize| "x".repeat(length - 3) + "\u{e4}";
        assert!(Password::of(&of_bytes(72)).decomposed_key().is_some());
        let longer = Password::of(&of_bytes(73));
        assert!(longer.key().is_some() && longer.decomposed_key().is_none());
    }
}
