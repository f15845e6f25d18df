//! How much guessing is let through.

use std::time::Duration;

use super::{
    args::Args,
    problem::Problems,
    value::{duration, number},
};

const DAY: Duration = Duration::from_hours(24);
/// As long as humantime has it.
const YEAR: Duration = Duration::from_hours(8766);
/// As good as no limit, and far from an overflow of any sum of times.
const MOST: u32 = 1_000_000;

/// How many attempts may fail, and how long the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Free failures of an account at one caller address, or without any.
    pub free_per_pair: u32,
    /// Free failures of an account.
    pub free_per_account: u32,
    /// Free failures of a caller address.
    pub free_per_address: u32,
    /// Free registrations of a caller address.
    pub registrations_per_address: u32,
    /// Failures of an account that reach a hash in a day.
    pub daily_per_account: u32,
    /// The wait once the free failures are used up; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How long it takes until one failure is forgotten.
    pub fade: Duration,
    /// How long a pair is known after a login.
    pub known_for: Duration,
}

/// The defaults.
const LIMITS: ThrottleLimits = ThrottleLimits {
    free_per_pair: 5,
    free_per_account: 20,
    free_per_address: 50,
    registrations_per_address: 50,
    daily_per_account: 100,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_mins(15),
    fade: Duration::from_mins(30),
    known_for: Duration::from_hours(30 * 24),
};

impl ThrottleLimits {
    /// How long it takes until the most free failures of any kind are forgotten.
    #[must_use]
    pub fn longest_fade(&self) -> Duration {
        let most = self
            .free_per_pair
            .max(self.free_per_account)
            .max(self.free_per_address)
            .max(self.registrations_per_address);
        self.fade * most
    }

    pub(super) fn read(args: &Args, problems: &mut Problems) -> Self {
        let mut limits = LIMITS;
        for (name, value, limit) in [
            (
                "THROTTLE_FREE_PER_PAIR",
                &args.throttle_free_per_pair,
                &mut limits.free_per_pair,
            ),
            (
                "THROTTLE_FREE_PER_ACCOUNT",
                &args.throttle_free_per_account,
                &mut limits.free_per_account,
            ),
            (
                "THROTTLE_FREE_PER_ADDRESS",
                &args.throttle_free_per_address,
                &mut limits.free_per_address,
            ),
            (
                "THROTTLE_DAILY_PER_ACCOUNT",
                &args.throttle_daily_per_account,
                &mut limits.daily_per_account,
            ),
            (
                "THROTTLE_REGISTRATIONS_PER_ADDRESS",
                &args.throttle_registrations_per_address,
                &mut limits.registrations_per_address,
            ),
        ] {
            let parsed = problems.parse(name, value.as_deref(), number(1..=MOST));
            *limit = parsed.unwrap_or(*limit);
        }
        limits.read_times(args, problems);
        limits
    }

    fn read_times(&mut self, args: &Args, problems: &mut Problems) {
        let millisecond = Duration::from_millis(1);
        for (name, value, range, time) in [
            (
                "THROTTLE_FIRST_WAIT",
                &args.throttle_first_wait,
                millisecond..=DAY,
                &mut self.first_wait,
            ),
            (
                "THROTTLE_LONGEST_WAIT",
                &args.throttle_longest_wait,
                millisecond..=DAY,
                &mut self.longest_wait,
            ),
            (
                "THROTTLE_FADE",
                &args.throttle_fade,
                millisecond..=7 * DAY,
                &mut self.fade,
            ),
            (
                "THROTTLE_KNOWN_FOR",
                &args.throttle_known_for,
                Duration::ZERO..=YEAR,
                &mut self.known_for,
            ),
        ] {
            let parsed = problems.parse(name, value.as_deref(), duration(range));
            *time = parsed.unwrap_or(*time);
        }
        problems.require(
            self.first_wait <= self.longest_wait,
            ["THROTTLE_FIRST_WAIT", "THROTTLE_LONGEST_WAIT"],
            "(default 1s) must not be longer than THROTTLE_LONGEST_WAIT (default 15m)",
        );
    }
}
