//! The bcrypt function itself, behind one call, and the proof that it computes bcrypt.
//!
//! The proof runs at every start: a kernel that a compiler or a CPU broke would otherwise
//! lock every user out, or store hashes that only it can verify.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{
    MAX_BYTES,
    hash::{Digest, PasswordHash, Salt},
};

/// The bytes that bcrypt mixes in: the password and the NUL that ends it, at most 72.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    pub(super) fn new(password: &[u8]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        bytes.extend_from_slice(password);
        bytes.push(0);
        bytes.truncate(MAX_BYTES);
        Self(bytes)
    }
}

/// One bcrypt to compute.
pub(super) struct Work {
    pub(super) key: Key,
    pub(super) cost: u32,
    pub(super) salt: Salt,
}

/// Computes it: `2^cost` rounds on the calling thread.
pub(super) fn digest(work: &Work) -> Digest {
    let output = bcrypt::bcrypt(work.cost, work.salt, &work.key.0);
    *output.first_chunk().expect("24 bytes hold 23")
}

/// From jBCrypt's and `crypt_blowfish`'s own tests. The second has the sign bit set, which
/// the `$2x$` implementations got wrong. Cheap, because the service waits for them.
const KNOWN_ANSWERS: [(&[u8], &str); 2] = [
    (
        b"abc",
        "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
    ),
    (
        b"\xa3",
        "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq",
    ),
];

/// Computes the known answers. The time that one round took, or `None` if one is wrong.
pub(super) fn self_test(kernel: impl Fn(&Work) -> Digest) -> Option<Duration> {
    let mut round = Duration::MAX;
    for (password, answer) in KNOWN_ANSWERS {
        let answer = PasswordHash::parse(answer).expect("a published hash is well-formed");
        let work = Work {
            key: Key::new(password),
            cost: answer.cost(),
            salt: answer.salt(),
        };
        let started = Instant::now();
        if kernel(&work) != *answer.digest() {
            return None;
        }
        round = round.min(started.elapsed() / (1 << work.cost));
    }
    Some(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_published_answers() {
        assert!(self_test(digest).is_some());
    }

    #[test]
    fn one_wrong_bit_fails_the_self_test() {
        let broken = |work: &Work| {
            let mut digest = digest(work);
            digest[22] ^= u8::from(work.cost == 5);
            digest
        };
        assert!(self_test(broken).is_none());
    }

    #[test]
    fn a_key_ends_with_a_nul_if_that_fits() {
        assert_eq!(**Key::new(b"abc").0, *b"abc\0");
        assert_eq!(**Key::new(&[7; 71]).0, [[7; 71].as_slice(), &[0]].concat());
        assert_eq!(**Key::new(&[7; 72]).0, [7; 72]);
    }
}
