//! The stored form of a password: `$2b$12$`, 22 characters of salt, 31 of digest.
//!
//! The text is kept as it was read, because a cost upgrade compares-and-sets on it.
//! `$2a$` and `$2y$` are the same function for passwords of up to 72 bytes, so imported hashes
//! verify. `$2x$` is a broken variant and is refused.

use std::{fmt, ops::RangeInclusive};

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use bcrypt::HashParts;
use bcrypt_lanes::{Digest, Salt};

pub(super) const COSTS: RangeInclusive<u32> = 4..=31;

/// The instance in the `bcrypt` crate belongs to another version of `base64`.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

const DIGEST_AT: usize = "$2b$12$".len() + 22;

/// A well-formed bcrypt hash.
pub struct PasswordHash {
    text: String,
    cost: u32,
    salt: Salt,
    digest: Digest,
}

impl PasswordHash {
    /// Reads `$2a$`, `$2b$` and `$2y$` with a cost of 4 to 31.
    pub fn parse(text: &str) -> Result<Self, MalformedHash> {
        let parts: HashParts = text.parse().map_err(|_| MalformedHash)?;
        if text.starts_with("$2x$") || !COSTS.contains(&parts.get_cost()) {
            return Err(MalformedHash);
        }
        let mut digest = Digest::default();
        BASE64
            .decode_slice(&text[DIGEST_AT..], &mut digest)
            .map_err(|_| MalformedHash)?;
        Ok(Self {
            text: text.to_owned(),
            cost: parts.get_cost(),
            salt: parts.get_salt_raw(),
            digest,
        })
    }

    pub(super) fn new(cost: u32, salt: Salt, digest: Digest) -> Self {
        let text = format!(
            "$2b${cost:02}${}{}",
            BASE64.encode(salt),
            BASE64.encode(digest)
        );
        Self {
            text,
            cost,
            salt,
            digest,
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The binary logarithm of the number of rounds.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    pub(super) const fn salt(&self) -> Salt {
        self.salt
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl fmt::Debug for PasswordHash {
    /// Shows version and cost. An attacker needs the rest to guess offline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({}..)", &self.text[.."$2b$12$".len()])
    }
}

/// The text is not shown, because it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bcrypt hash")]
pub struct MalformedHash;

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
            assert_eq!(
                PasswordHash::parse(&text).unwrap_err(),
                MalformedHash,
                "{text}"
            );
        }
    }

    #[test]
    fn debug_output_shows_neither_salt_nor_digest() {
        assert_eq!(
            format!("{:?}", PasswordHash::parse(TEXT).unwrap()),
            "PasswordHash($2b$12$..)"
        );
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
            PasswordHash::parse(&text).ok();
        }
    }
}
