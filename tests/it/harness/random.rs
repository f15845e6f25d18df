//! Random input that can be repeated: each test prints its seed, and `TEST_SEED` sets it.

use std::{env, fmt::Debug};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tokio::runtime::Handle;

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
pub struct Random(u64);

impl Random {
    /// Takes the seed from `TEST_SEED`, or from the system if that is not set. Prints it; the
    /// test runner shows the line when the test fails.
    pub fn new() -> Self {
        let seed = match env::var("TEST_SEED") {
            Ok(seed) => seed.parse().expect("TEST_SEED is a number"),
            Err(_) => getrandom::u64().expect("randomness"),
        };
        eprintln!("TEST_SEED={seed}");
        Self(seed)
    }

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

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.bits().to_le_bytes()[0]).collect()
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

/// Runs a property test with a seed of [`Random`]. A failure prints the smallest case that
/// still fails. The test must run on a runtime with several threads.
pub fn check_cases<T: Debug>(
    cases: u32,
    strategy: &impl Strategy<Value = T>,
    test: impl AsyncFn(T) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        // Each case costs calls or statements, so the search for a smaller one has an end.
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &Random::new().bytes(32));
    let mut runner = TestRunner::new_with_rng(config, random);
    let handle = Handle::current();
    let outcome =
        tokio::task::block_in_place(|| runner.run(strategy, |case| handle.block_on(test(case))));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// `short`, or `long` when `TEST_SOAK` is set.
pub fn soak<T>(short: T, long: T) -> T {
    if env::var_os("TEST_SOAK").is_some() {
        long
    } else {
        short
    }
}
