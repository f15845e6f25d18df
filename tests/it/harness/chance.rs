//! Chance that can be repeated: every test prints its seed, and `TEST_SEED` sets it.

use std::env;

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
pub struct Chance(u64);

impl Chance {
    /// From `TEST_SEED`, else from the system; prints which. (Shown when the test fails.)
    pub fn new() -> Self {
        let seed = match env::var("TEST_SEED") {
            Ok(seed) => seed.parse().expect("TEST_SEED is a number"),
            Err(_) => getrandom::u64().expect("randomness"),
        };
        eprintln!("TEST_SEED={seed}");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from(self.bits() % end).expect("it is below")
    }

    /// This many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.bits().to_le_bytes()[0]).collect()
    }

    /// Puts things in any order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

/// `short` as a rule, `long` when `TEST_SOAK` is set.
pub fn soak<T>(short: T, long: T) -> T {
    if env::var_os("TEST_SOAK").is_some() {
        long
    } else {
        short
    }
}
