//! The proof that the kernel computes bcrypt, in every number of lanes.
//!
//! A kernel that a compiler or a CPU broke would otherwise lock every user out, or store
//! hashes that only it can verify.

use std::time::{Duration, Instant};

use bcrypt_lanes::{Key, LANES, Lane, Lanes, Work};

use super::{hash::PasswordHash, pace::Pace};

/// From `crypt_blowfish`'s own tests. The first has the sign bit set, which the `$2x$`
/// implementations got wrong; the last is as long as a key can be. Cheap, because the
/// service waits for them.
const KNOWN_ANSWERS: [(&[u8], &str); 3] = [
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

/// Computes the known answers. The pace of the machine, or `None` if one is wrong.
pub(super) fn self_test(begin: &impl Fn(&mut Lane, &Work)) -> Option<Pace> {
    let mut round = [Duration::ZERO; LANES];
    for (n, round) in round.iter_mut().enumerate() {
        *round = know_answers(n + 1, begin)?;
    }
    Some(Pace::new(round))
}

/// Fills so many lanes with known answers. The time of a round, or `None` if one is wrong.
fn know_answers(count: usize, begin: &impl Fn(&mut Lane, &Work)) -> Option<Duration> {
    let mut lanes = Lanes::default();
    let started = Instant::now();
    for (password, answer) in KNOWN_ANSWERS.iter().cycle().take(count) {
        let answer = PasswordHash::parse(answer).expect("a published hash is well-formed");
        let work = Work {
            key: Key::new(password),
            cost: answer.cost(),
            salt: answer.salt(),
        };
        lanes.join(&work, answer, begin);
    }
    let rounds = lanes.advance(u32::MAX);
    let right = |(answer, digest): (PasswordHash, _)| digest == *answer.digest();
    lanes
        .complete()
        .into_iter()
        .all(right)
        .then(|| started.elapsed() / rounds)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_kernel_knows_the_published_answers() {
        assert!(self_test(&Lane::begin).is_some());
    }

    #[test]
    fn one_wrong_hash_in_any_lane_fails_it() {
        let hashes = (1..=LANES).sum();
        for broken in 0..hashes {
            let count = Cell::new(0);
            let begin = |lane: &mut Lane, work: &Work| {
                lane.begin(work);
                if count.replace(count.get() + 1) == broken {
                    lane.begin(&Work {
                        key: Key::new(b"another"),
                        ..*work
                    });
                }
            };
            assert!(self_test(&begin).is_none(), "{broken} of {hashes}");
            assert!(count.get() > broken);
        }
    }
}
