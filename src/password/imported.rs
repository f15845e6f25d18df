//! Password hashes that another system wrote.
//!
//! bcrypt is taken as `$2a$`, `$2b$` or `$2y$`, also behind Spring Security's prefix `{bcrypt}`,
//! with a cost of 4 to 16: a login with a higher cost would not be done before its deadline. Any
//! other hash is refused with the name of its format.
//!
//! The last characters of salt and digest have bits that bcrypt does not use. Most writers set
//! them to zero, but some copied a given salt as it was. They become zero here, as in `crypt` and
//! in Python's passlib: the `bcrypt` crate refuses any other value.

use std::ops::RangeInclusive;

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use bcrypt_lanes::{Digest, Salt};

use super::PasswordHash;

const COSTS: RangeInclusive<u32> = 4..=16;

const BASE64_OF_ANY_WRITER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

/// Beginnings of hashes in other formats, in either case. The first that fits counts.
const FORMATS: &[(&str, &str)] = &[
    ("$2$", "$2$, the first version of bcrypt"),
    ("$2x$", "$2x$, a faulty variant of bcrypt"),
    ("$bcrypt-sha256$", "bcrypt of a SHA-256 digest"),
    ("bcrypt_sha256$", "bcrypt of a SHA-256 digest"),
    ("bcrypt$", "Django's bcrypt, whose prefix must be removed"),
    ("$argon2id$", "argon2id"),
    ("$argon2i$", "argon2i"),
    ("$argon2d$", "argon2d"),
    ("argon2$", "argon2"),
    ("{argon2id", "argon2id"),
    ("{argon2", "argon2"),
    ("$scrypt$", "scrypt"),
    ("scrypt$", "scrypt"),
    ("scrypt:", "scrypt"),
    ("$7$", "scrypt"),
    ("$fbscrypt$", "Firebase's scrypt"),
    ("{scrypt", "scrypt"),
    ("$pbkdf2", "PBKDF2"),
    ("pbkdf2_", "PBKDF2"),
    ("pbkdf2:", "PBKDF2"),
    ("{pbkdf2", "PBKDF2"),
    ("$y$", "yescrypt"),
    ("$gy$", "gost-yescrypt"),
    ("$1$", "md5-crypt"),
    ("$apr1$", "md5-crypt of Apache"),
    ("$5$", "sha256-crypt"),
    ("$6$", "sha512-crypt"),
    ("$P$", "phpass"),
    ("$H$", "phpass"),
    ("$S$", "Drupal's SHA-512"),
    ("{sha", "SHA"),
    ("{ssha", "salted SHA"),
    ("{md4}", "MD4"),
    ("{md5", "MD5"),
    ("{smd5}", "salted MD5"),
    ("{ldap}", "Spring Security's LDAP"),
    ("{crypt}", "LDAP's crypt"),
    ("{noop}", "plain text"),
    ("{plain", "plain text"),
    ("{clear", "plain text"),
    ("sha1$", "salted SHA-1"),
    ("md5$", "salted MD5"),
];

/// Digests without a salt, by the number of their hexadecimal digits.
const DIGESTS: [(usize, &str); 4] = [
    (32, "a bare MD5 digest"),
    (40, "a bare SHA-1 digest"),
    (64, "a bare SHA-256 digest"),
    (128, "a bare SHA-512 digest"),
];

/// Why a hash is refused. The text contains no part of the salt or the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportedHashError {
    #[error("the cost {0} is not between {least} and {most}", least = COSTS.start(), most = COSTS.end())]
    Cost(u32),
    #[error("a malformed bcrypt hash")]
    Malformed,
    #[error("the format is {0}; only bcrypt is supported")]
    Format(&'static str),
    #[error("an unknown format; only bcrypt is supported")]
    Unknown,
}

impl PasswordHash {
    /// Reads a hash that another system wrote.
    pub fn import(text: &str) -> Result<Self, ImportedHashError> {
        let behind_prefix = without_prefix(text, "{bcrypt}");
        let hash = behind_prefix.unwrap_or(text);
        for version in ["2a", "2b", "2y"] {
            if let Some(rest) = hash.strip_prefix(&format!("${version}$")) {
                return read(version, rest);
            }
        }
        let unnamed = match behind_prefix {
            Some(_) => ImportedHashError::Malformed,
            None => ImportedHashError::Unknown,
        };
        Err(format_of(hash).map_or(unnamed, ImportedHashError::Format))
    }
}

/// `rest` begins with the cost.
fn read(version: &str, rest: &str) -> Result<PasswordHash, ImportedHashError> {
    let (cost, salt, digest) = parts(rest).ok_or(ImportedHashError::Malformed)?;
    if !COSTS.contains(&cost) {
        return Err(ImportedHashError::Cost(cost));
    }
    Ok(PasswordHash::of_version(version, cost, salt, digest))
}

fn parts(rest: &str) -> Option<(u32, Salt, Digest)> {
    let (cost, digits) = rest.split_once('$')?;
    if cost.len() != 2 || !cost.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (salt, digest) = digits.split_at_checked(22)?;
    Some((cost.parse().ok()?, decode(salt)?, decode(digest)?))
}

fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let length = BASE64_OF_ANY_WRITER.decode_slice(digits, &mut bytes).ok()?;
    (length == N).then_some(bytes)
}

fn format_of(hash: &str) -> Option<&'static str> {
    let fits = |(prefix, _): &&(&str, _)| without_prefix(hash, prefix).is_some();
    let by_prefix = FORMATS.iter().find(fits).map(|(_, name)| *name);
    by_prefix.or_else(|| {
        let is_hex = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digest = DIGESTS.iter().find(|(digits, _)| *digits == hash.len());
        digest.filter(|_| is_hex).map(|(_, name)| *name)
    })
}

/// What follows a prefix of ASCII characters, which may be in either case.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (beginning, rest) = text.split_at_checked(prefix.len())?;
    beginning.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests;
