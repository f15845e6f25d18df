use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::Reader,
    value::{DAY, duration, number},
    variable::{value, variables},
};
use crate::model::ThrottleLimits;

variables! {
    "Guessing"

    /// Failures without a wait of an account at one caller address, 1 to 1000000
    THROTTLE_FREE_PER_PAIR: u32 = value("COUNT", count).default("5");
    /// Failures without a wait of an account, 1 to 1000000
    THROTTLE_FREE_PER_ACCOUNT: u32 = value("COUNT", count).default("20");
    /// Failures without a wait of a caller address, 1 to 1000000
    THROTTLE_FREE_PER_ADDRESS: u32 = value("COUNT", count).default("50");
    /// Failures of an account that reach a hash in 24 h, 1 to 1000000
    THROTTLE_DAILY_PER_ACCOUNT: u32 = value("COUNT", count).default("100");
    /// Registrations without a wait of a caller address, 1 to 1000000
    THROTTLE_REGISTRATIONS_PER_ADDRESS: u32 = value("COUNT", count).default("50");
    /// First wait after those; each further failure doubles it
    THROTTLE_FIRST_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("1s");
    /// Longest wait, up to 1day
    THROTTLE_LONGEST_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("15m");
    /// How long it takes until one failure is forgotten, up to 7days
    THROTTLE_FADE: Duration = value("DURATION", |text| duration(text, FADE)).default("30m");
    /// How long after a login an account at that caller address is not held back by failures
    /// elsewhere, up to 365days; 0s: never
    THROTTLE_KNOWN_FOR: Duration = value("DURATION", |text| duration(text, KNOWN_FOR))
        .default("30d");
}

const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
const FADE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(7 * 24);
const KNOWN_FOR: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(365 * 24);

/// A million is as good as no limit, and no sum of times comes near an overflow.
fn count(text: &str) -> Result<u32, String> {
    number(text, 1..=1_000_000)
}

pub(super) fn read(reader: &mut Reader<'_>) -> ThrottleLimits {
    let limits = ThrottleLimits {
        free_per_pair: reader.value(&THROTTLE_FREE_PER_PAIR),
        free_per_account: reader.value(&THROTTLE_FREE_PER_ACCOUNT),
        free_per_address: reader.value(&THROTTLE_FREE_PER_ADDRESS),
        daily_per_account: reader.value(&THROTTLE_DAILY_PER_ACCOUNT),
        registrations_per_address: reader.value(&THROTTLE_REGISTRATIONS_PER_ADDRESS),
        first_wait: reader.value(&THROTTLE_FIRST_WAIT),
        longest_wait: reader.value(&THROTTLE_LONGEST_WAIT),
        fade: reader.value(&THROTTLE_FADE),
        known_for: reader.value(&THROTTLE_KNOWN_FOR),
    };
    reader.require_order(
        limits.first_wait <= limits.longest_wait,
        &THROTTLE_FIRST_WAIT,
        "must not be longer than",
        &THROTTLE_LONGEST_WAIT,
    );
    limits
}
