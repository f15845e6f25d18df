//! How much guessing is let through.

use std::time::Duration;

use super::{
    args::Args,
    problem::Problems,
    value::{duration, number},
};
use crate::model::ThrottleLimits;

const DAY: Duration = Duration::from_hours(24);
/// As long as humantime has it.
const YEAR: Duration = Duration::from_hours(8766);
/// As good as no limit, and far from an overflow of any sum of times.
const MOST: u32 = 1_000_000;

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

pub(super) fn read(args: &Args, problems: &mut Problems) -> ThrottleLimits {
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
    read_times(&mut limits, args, problems);
    limits
}

fn read_times(limits: &mut ThrottleLimits, args: &Args, problems: &mut Problems) {
    let millisecond = Duration::from_millis(1);
    for (name, value, range, time) in [
        (
            "THROTTLE_FIRST_WAIT",
            &args.throttle_first_wait,
            millisecond..=DAY,
            &mut limits.first_wait,
        ),
        (
            "THROTTLE_LONGEST_WAIT",
            &args.throttle_longest_wait,
            millisecond..=DAY,
            &mut limits.longest_wait,
        ),
        (
            "THROTTLE_FADE",
            &args.throttle_fade,
            millisecond..=7 * DAY,
            &mut limits.fade,
        ),
        (
            "THROTTLE_KNOWN_FOR",
            &args.throttle_known_for,
            Duration::ZERO..=YEAR,
            &mut limits.known_for,
        ),
    ] {
        let parsed = problems.parse(name, value.as_deref(), duration(range));
        *time = parsed.unwrap_or(*time);
    }
    problems.require(
        limits.first_wait <= limits.longest_wait,
        ["THROTTLE_FIRST_WAIT", "THROTTLE_LONGEST_WAIT"],
        "(default 1s) must not be longer than THROTTLE_LONGEST_WAIT (default 15m)",
    );
}
