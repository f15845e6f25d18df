//! The stored form of a password: `$2b$12$`, 22 characters of salt, 31 of digest.
//!
//! The text is kept as it was read, because a cost upgrade compares-and-sets on it. `$2a$` and
//! `$2y$` are the same function for passwords of up to 72 bytes, so imported hashes verify.
//! `$2x$` is a faulty variant and is refused.

use std::ops::RangeInclusive;

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use bcrypt::HashParts;
use bcrypt_lanes::{Digest, Key, Salt, Work};

pub(super) const COSTS: RangeInclusive<u32> = 4..=31;

/// The instance in the `bcrypt` crate belongs to another version of `base64`.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

const DIGEST_AT: usize = "$2b$12$".len() + 22;

/// Has no `Debug`: an attacker who sees salt and digest can guess offline.
pub struct PasswordHash {
    text: String,
    cost: u32,
    salt: Salt,
    digest: Digest,
}

impl PasswordHash {
    /// Reads `$2a$`, `$2b$` and `$2y$` with a cost of 4 to 31.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: HashParts = text.parse().ok()?;
        if text.starts_with("$2x$") || !COSTS.contains(&parts.get_cost()) {
            return None;
        }
        let mut digest = Digest::default();
        let digits = &text[DIGEST_AT..];
        BASE64.decode_slice(digits, &mut digest).ok()?;
        Some(Self {
            text: text.to_owned(),
            cost: parts.get_cost(),
            salt: parts.get_salt_raw(),
            digest,
        })
    }

    pub(super) fn new(cost: u32, salt: Salt, digest: Digest) -> Self {
        Self::of_version("2b", cost, salt, digest)
    }

    pub(super) fn of_version(version: &str, cost: u32, salt: Salt, digest: Digest) -> Self {
        let [salt_digits, digits] = [BASE64.encode(salt), BASE64.encode(digest)];
        let text = format!("${version}${cost:02}${salt_digits}{digits}");
        Self {
            text,
            cost,
            salt,
            digest,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The binary logarithm of the number of rounds.
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// The bcrypt that gives this hash for the right key.
    pub(super) const fn work(&self, key: Key) -> Work {
        Work::new(key, self.cost, self.salt)
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "$2b$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

    #[test]
    fn a_hash_is_stored_as_it_was_read() {
        for version in ["$2a$", "$2b$", "$2y$"] {
            let text = TEXT.replace("$2b$", version);
            let hash = PasswordHash::parse(&text).unwrap();
            assert_eq!((hash.as_str(), hash.cost()), (text.as_str(), 12));
        }
    }

    #[test]
    fn what_is_not_a_bcrypt_hash_is_refused() {
        let refused = [
            String::new(),
            "hunter2".to_owned(),
            TEXT[..59].to_owned(),
            format!("{TEXT}."),
            TEXT.replace("$2b$", "$2x$"),
            TEXT.replace("$12$", "$03$"),
            TEXT.replace("$12$", "$32$"),
            TEXT.replace("$12$", "$1x$"),
            TEXT.replace("If6b", "If!b"),
            TEXT.replace("If6b", "I\u{e9}b"),
        ];
        for text in refused {
            assert!(PasswordHash::parse(&text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(cost in COSTS, salt: Salt, digest in any::<[u8; 23]>()) {
            let printed = PasswordHash::new(cost, salt, digest);
            let read = PasswordHash::parse(printed.as_str()).unwrap();
            prop_assert_eq!((read.cost, read.salt, read.digest), (cost, salt, digest));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,70}") {
            let _ = PasswordHash::parse(&text);
        }
    }
}
