//! The kernel against published hashes and against the `bcrypt` crate, in any number of
//! lanes, with hashes that join and leave at any point.

use std::{iter::zip, thread};

use bcrypt_lanes::{Digest, Key, LANES, Lanes, Work};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::PasswordHash;

#[derive(Clone, Debug)]
struct Case {
    password: Vec<u8>,
    cost: u32,
    padded_to: u32,
    salt: [u8; 16],
}

impl Case {
    fn work(&self) -> Work {
        Work::new(Key::new(&self.password), self.cost, self.salt).padded(self.padded_to)
    }

    fn expected(&self) -> Digest {
        let mut key = [self.password.as_slice(), &[0]].concat();
        key.truncate(72);
        let output = bcrypt::bcrypt(self.cost, self.salt, &key);
        *output.first_chunk().unwrap()
    }
}

/// Many cases have a password length at which the key ends or repeats differently.
fn case() -> impl Strategy<Value = Case> {
    let length = prop_oneof![Just(1), 70..=72_usize, 1..=72_usize];
    let bytes = length.prop_flat_map(|length| prop::collection::vec(1..=u8::MAX, length));
    let text = "[a-z\u{e4}\u{3c0}\u{1f511}]{1,18}".prop_map(String::into_bytes);
    let password = prop_oneof![3 => bytes, 1 => text];
    let cost = || prop_oneof![8 => Just(4_u32), 2 => Just(5), 1 => Just(6)];
    let parts = (password, cost(), cost(), any::<[u8; 16]>());
    parts.prop_map(|(password, cost, padded_to, salt)| Case {
        password,
        cost,
        padded_to,
        salt,
    })
}

/// How many rounds are computed, and whether the hash that joined so many cases before leaves.
/// Both are rare, so that most lanes stay in use.
fn step() -> impl Strategy<Value = (u32, Option<usize>)> {
    let rounds = prop_oneof![3 => Just(0), 1 => 0..24_u32];
    (rounds, prop::option::weighted(0.05, 1..=LANES))
}

fn random<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let many = prop::collection::vec(strategy, count);
    let mut runner = TestRunner::new(ProptestConfig::default());
    many.new_tree(&mut runner).unwrap().current()
}

/// Runs the cases until `wanted` hashes have completed while all `most` lanes were in use.
fn agree(cases: &[(Case, Digest)], most: usize, wanted: usize) {
    let steps = random(step(), cases.len());
    let mut joining = zip(cases, steps).enumerate().cycle();
    let (mut lanes, mut right) = (Lanes::default(), 0);
    while right < wanted {
        let (n, (case, (rounds, leaver))) = joining.next().expect("a cycle");
        right += advance_and_check(&mut lanes, most, rounds);
        lanes.retain(|(joined, _)| leaver.is_none_or(|before| joined + before != n));
        while lanes.count() == most {
            right += advance_and_check(&mut lanes, most, u32::MAX);
        }
        lanes.join(&case.0.work(), (n, case));
    }
}

fn advance_and_check(
    lanes: &mut Lanes<(usize, &(Case, Digest))>,
    most: usize,
    rounds: u32,
) -> usize {
    let all_in_use = lanes.count() == most;
    lanes.advance(rounds);
    let complete = lanes.complete();
    for ((_, (case, expected)), digest) in &complete {
        assert_eq!(digest, expected, "one of {most} lanes: {case:?}");
    }
    if all_in_use { complete.len() } else { 0 }
}

#[test]
fn the_bcrypt_crate_agrees_while_hashes_join_and_leave() {
    const HASHES: usize = 10_000;
    const THREADS: usize = 4;
    let some = || {
        let cases = random(case(), HASHES / THREADS).into_iter();
        let with_digest = |case: Case| {
            let expected = case.expected();
            (case, expected)
        };
        cases.map(with_digest).collect()
    };
    let cases: Vec<_> = thread::scope(|scope| {
        let parts = [(); THREADS].map(|()| scope.spawn(some));
        let parts = parts.map(|part| part.join().unwrap());
        parts.into_iter().flat_map(|part: Vec<_>| part).collect()
    });
    thread::scope(|scope| {
        for most in 1..=LANES {
            let cases = &cases;
            scope.spawn(move || agree(cases, most, HASHES));
        }
    });
}

#[test]
fn a_padded_hash_has_the_same_digest_after_the_rounds_of_the_higher_cost() {
    let work = || Work::new(Key::new(b"x"), 4, [7; 16]);
    for (padded_to, rounds) in [(4, 16), (5, 32), (9, 512), (3, 16)] {
        let work = work().padded(padded_to);
        assert_eq!(work.rounds(), rounds);
        let mut lanes = Lanes::default();
        lanes.join(&work, ());
        let (mut computed, mut complete) = (0, Vec::new());
        while complete.is_empty() {
            computed += lanes.advance(7);
            complete = lanes.complete();
        }
        assert_eq!(computed, rounds, "{padded_to}");
        let expected = bcrypt::bcrypt(4, [7; 16], b"x\0");
        assert_eq!(complete[0].1, expected[..23]);
    }
}

#[test]
fn published_hashes_of_every_cost_come_out_right() {
    // From jBCrypt's and Spring Security's tests, then from libxcrypt. The password directly
    // after the hash.
    let table = [
        "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.",
        "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxea",
        "$2a$08$HqWuK6/Ng6sg9gQzbLrgb.Tl.ZHfXLhvt/SgVyWhQqgqcZ7ZuUtye",
        "$2a$08$cfcvVd2aQ8CMvoMpP2EBfeodLEkkFJ9umNEfPD18.hUF62qqlC/V.a",
        "$2a$10$WvvTPHKwdBJ3uk0Z37EMR.hLA2W6N9AEBhEgrAOljy2Ae5MtaSIUiabc",
        "$2a$10$.TtQJ4Jr6isd4Hp.mVfZeuh6Gws4rOQ/vdBczhDx.19NFK0Y84Dle\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}",
        "$2a$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9qabc",
        "$2a$12$8NJH3LsPrANStV6XtBakCez0cKHXVxmvxIlcz785vxAIZrihHZpeSa",
        "$2b$11$abcdefghijklmnopqrstuusBYO29mJIqOxgLrc9aqk1AkDbI/OXZGcorrect horse 11",
        "$2b$13$abcdefghijklmnopqrstuurE35xs/pZfZXaIKaJi.sDaQgDyqWOX.correct horse 13",
        "$2b$14$abcdefghijklmnopqrstuu2LfQlbEyT4B0gnOO4l0vcwx8uj5dsLScorrect horse 14",
        "$2b$15$abcdefghijklmnopqrstuuTU3.WH.JhO2j1/oEiRF0qNQJLmjbz6Ccorrect horse 15",
        "$2b$16$abcdefghijklmnopqrstuuI51O1yIHbpgJU3tAa29j5s8gjcYlnPScorrect horse 16",
    ];
    let mut lanes = Lanes::default();
    for group in table.chunks(LANES) {
        for (hash, password) in group.iter().map(|line| line.split_at(60)) {
            let hash = PasswordHash::parse(hash).unwrap();
            lanes.join(&hash.work(Key::new(password.as_bytes())), hash);
        }
        while lanes.count() > 0 {
            lanes.advance(u32::MAX);
            for (hash, digest) in lanes.complete() {
                assert_eq!(digest, *hash.digest(), "{}", hash.as_str());
            }
        }
    }
}
