//! The proof that the kernel computes bcrypt, in every number of lanes.
//!
//! A faulty compiler or CPU could otherwise lock out all users or store hashes that no other
//! program can verify.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use bcrypt_lanes::{Key, Lanes};

use super::{hash::PasswordHash, round_times::RoundTimes};

type Answer = (&'static [u8], &'static str);

/// From `crypt_blowfish`'s own tests. The first has the sign bit set, which the `$2x$`
/// implementations got wrong; the last has the maximum length of a key. Their cost is low,
/// because the service waits for them.
const KNOWN_ANSWERS: [Answer; 3] = [
    (
        b"\xa3",
        "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq",
    ),
    (
        b"U*U*U",
        "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a",
    ),
    (
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
          0123456789",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
    ),
];

/// Computes the known answers in up to so many lanes. Returns the times of a round, or `None` if
/// an answer is wrong.
pub(super) fn self_test(lanes: NonZeroUsize) -> Option<RoundTimes> {
    let counts = 1..=lanes.get();
    let times = counts.map(|lanes| round_time(&known_answers(lanes)));
    Some(RoundTimes::new(times.collect::<Option<_>>()?))
}

fn known_answers(count: usize) -> Vec<Answer> {
    KNOWN_ANSWERS.into_iter().cycle().take(count).collect()
}

/// Computes each answer in a lane of its own.
fn round_time(answers: &[Answer]) -> Option<Duration> {
    let mut lanes = Lanes::default();
    let started = Instant::now();
    for (password, hash) in answers {
        let hash = PasswordHash::parse(hash).expect("a published hash is well-formed");
        lanes.join(&hash.work(Key::new(password)), hash);
    }
    let rounds = lanes.advance(u32::MAX);
    let right = |(hash, digest): (PasswordHash, _)| digest == *hash.digest();
    let all_right = lanes.complete().into_iter().all(right);
    all_right.then(|| started.elapsed() / rounds)
}

#[cfg(test)]
mod tests {
    use bcrypt_lanes::LANES;

    use super::*;

    #[test]
    fn the_kernel_knows_the_published_answers_in_every_number_of_lanes() {
        let all = NonZeroUsize::new(LANES).unwrap();
        assert_eq!(self_test(all).unwrap().lanes(), LANES);
    }

    #[test]
    fn one_wrong_hash_in_any_lane_fails_it() {
        for count in 1..=LANES {
            for wrong in 0..count {
                let mut answers = known_answers(count);
                answers[wrong].0 = b"another";
                assert!(round_time(&answers).is_none(), "{wrong} of {count}");
            }
        }
    }
}
