//! The kernel against published hashes and against the `bcrypt` crate, in any number of
//! lanes, which join and leave at any point.

use std::{env, thread};

use bcrypt_lanes::{Digest, Key, LANES, Lane, Lanes, Work, advance};
use proptest::{prelude::*, test_runner::TestRunner};

use super::PasswordHash;

/// What to hash, and the digest that is right.
#[derive(Clone, Debug)]
struct Case {
    password: Vec<u8>,
    cost: u32,
    salt: [u8; 16],
}

impl Case {
    fn work(&self) -> Work {
        Work {
            key: Key::new(&self.password),
            cost: self.cost,
            salt: self.salt,
        }
    }

    fn expected(&self) -> Digest {
        let mut key = [self.password.as_slice(), &[0]].concat();
        key.truncate(72);
        let output = bcrypt::bcrypt(self.cost, self.salt, &key);
        *output.first_chunk().unwrap()
    }
}

/// Often with a password of a length where it ends or is repeated in another way.
fn case() -> impl Strategy<Value = Case> {
    let length = prop_oneof![Just(1), 70..=72_usize, 1..=72_usize];
    let bytes = length.prop_flat_map(|length| prop::collection::vec(1..=u8::MAX, length));
    let text = "[a-z\u{e4}\u{3c0}\u{1f511}]{1,18}".prop_map(String::into_bytes);
    let password = prop_oneof![3 => bytes, 1 => text];
    let cost = prop_oneof![8 => Just(4_u32), 2 => Just(5), 1 => Just(6)];
    (password, cost, any::<[u8; 16]>()).prop_map(|(password, cost, salt)| Case {
        password,
        cost,
        salt,
    })
}

/// How many rounds go by, whether the hash that came so many before leaves, who joins.
type Step = (u32, Option<usize>, Case);

fn step() -> impl Strategy<Value = Step> {
    (0..24_u32, prop::option::weighted(0.1, 1..=LANES), case())
}

/// Takes the steps with at most so many lanes in use, then lets all hashes end.
fn take_steps(most: usize, steps: Vec<Step>) {
    let mut lanes = Lanes::default();
    for (n, (rounds, leaver, case)) in steps.into_iter().enumerate() {
        go_on(&mut lanes, rounds);
        lanes.retain(|(joined, _)| leaver.is_none_or(|before| joined + before != n));
        while lanes.count() == most {
            go_on(&mut lanes, u32::MAX);
        }
        lanes.join(&case.work(), (n, case), Lane::begin);
    }
    while lanes.count() > 0 {
        go_on(&mut lanes, u32::MAX);
    }
}

fn go_on(lanes: &mut Lanes<(usize, Case)>, rounds: u32) {
    lanes.advance(rounds);
    for ((_, case), digest) in lanes.complete() {
        assert_eq!(digest, case.expected(), "{case:?}");
    }
}

/// 2,000 hashes in each number of lanes, 12,000 with `TEST_SOAK`.
#[test]
fn the_bcrypt_crate_agrees_while_hashes_join_and_leave() {
    const STEPS: usize = 40;
    let cases = if env::var_os("TEST_SOAK").is_some() {
        300
    } else {
        50
    };
    let in_lanes = |most| {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
        let steps = prop::collection::vec(step(), STEPS);
        let agrees = runner.run(&steps, |steps| {
            take_steps(most, steps);
            Ok(())
        });
        agrees.unwrap_or_else(|error| panic!("{most} lanes: {error}"));
    };
    thread::scope(|scope| {
        for most in 1..=LANES {
            scope.spawn(move || in_lanes(most));
        }
    });
}

#[test]
fn published_hashes_of_every_cost_come_out_right() {
    // From jBCrypt's and Spring Security's tests, then from libxcrypt.
    let table = [
        (
            "",
            "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.",
        ),
        (
            "a",
            "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
        ),
        (
            "",
            "$2a$08$HqWuK6/Ng6sg9gQzbLrgb.Tl.ZHfXLhvt/SgVyWhQqgqcZ7ZuUtye",
        ),
        (
            "a",
            "$2a$08$cfcvVd2aQ8CMvoMpP2EBfeodLEkkFJ9umNEfPD18.hUF62qqlC/V.",
        ),
        (
            "abc",
            "$2a$10$WvvTPHKwdBJ3uk0Z37EMR.hLA2W6N9AEBhEgrAOljy2Ae5MtaSIUi",
        ),
        (
            "\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}\u{3c0}",
            "$2a$10$.TtQJ4Jr6isd4Hp.mVfZeuh6Gws4rOQ/vdBczhDx.19NFK0Y84Dle",
        ),
        (
            "abc",
            "$2a$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9q",
        ),
        (
            "a",
            "$2a$12$8NJH3LsPrANStV6XtBakCez0cKHXVxmvxIlcz785vxAIZrihHZpeS",
        ),
        (
            "correct horse 11",
            "$2b$11$abcdefghijklmnopqrstuusBYO29mJIqOxgLrc9aqk1AkDbI/OXZG",
        ),
        (
            "correct horse 13",
            "$2b$13$abcdefghijklmnopqrstuurE35xs/pZfZXaIKaJi.sDaQgDyqWOX.",
        ),
        (
            "correct horse 14",
            "$2b$14$abcdefghijklmnopqrstuu2LfQlbEyT4B0gnOO4l0vcwx8uj5dsLS",
        ),
        (
            "correct horse 15",
            "$2b$15$abcdefghijklmnopqrstuuTU3.WH.JhO2j1/oEiRF0qNQJLmjbz6C",
        ),
        (
            "correct horse 16",
            "$2b$16$abcdefghijklmnopqrstuuI51O1yIHbpgJU3tAa29j5s8gjcYlnPS",
        ),
    ];
    let mut lanes = Lanes::default();
    let mut right = 0;
    for (password, hash) in table {
        while lanes.count() == LANES {
            lanes.advance(u32::MAX);
            right += complete(&mut lanes);
        }
        let hash = PasswordHash::parse(hash).unwrap();
        let work = Work {
            key: Key::new(password.as_bytes()),
            cost: hash.cost(),
            salt: hash.salt(),
        };
        lanes.join(&work, hash, Lane::begin);
    }
    while lanes.count() > 0 {
        lanes.advance(u32::MAX);
        right += complete(&mut lanes);
    }
    assert_eq!(right, table.len());
}

fn complete(lanes: &mut Lanes<PasswordHash>) -> usize {
    let complete = lanes.complete();
    for (hash, digest) in &complete {
        assert_eq!(digest, hash.digest(), "{}", hash.as_str());
    }
    complete.len()
}

/// More lanes than the engine has: who measures how many are best needs them right.
#[test]
fn any_number_of_lanes_goes_on_in_lockstep() {
    fn in_lanes<const N: usize>() {
        let case = |n: usize| Case {
            password: vec![u8::try_from(n + 1).unwrap(); n + 1],
            cost: 4,
            salt: [7; 16],
        };
        let mut lanes = Box::new([Lane::IDLE; N]);
        for (n, lane) in lanes.iter_mut().enumerate() {
            lane.begin(&case(n).work());
        }
        advance(&mut lanes, 1 << 4);
        for (n, lane) in lanes.iter().enumerate() {
            assert_eq!(lane.finish(), case(n).expected(), "lane {n} of {N}");
        }
    }
    in_lanes::<7>();
    in_lanes::<8>();
}
