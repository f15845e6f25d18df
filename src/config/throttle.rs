use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::Reader,
    value::{DAY, duration, number},
    variable::{value, variables},
};
use crate::model::ThrottleLimits;

variables! {
    "Guessing"

    /// Failures without a wait of a known device, or of a signed-in session, 1 to 1000000; an
    /// attempt in flight counts as one
    THROTTLE_FREE_PER_DEVICE: u32 = value("COUNT", count).default("10");
    /// Failures without a wait of an account on other devices, 1 to 1000000
    THROTTLE_FREE_PER_ACCOUNT: u32 = value("COUNT", count).default("20");
    /// Failures without a wait of a network (an IPv4 address, an IPv6 /64; ten times as many of
    /// a /48) on devices that are not known, 1 to 1000000
    THROTTLE_FREE_PER_NETWORK: u32 = value("COUNT", count).default("50");
    /// Registrations without a wait of a network, 1 to 1000000
    THROTTLE_REGISTRATIONS_PER_NETWORK: u32 = value("COUNT", count).default("50");
    /// Failures of an account in 24 h on devices that are not known, 1 to 1000000
    THROTTLE_DAILY_PER_ACCOUNT: u32 = value("COUNT", count).default("100");
    /// First wait after those; each further failure doubles it
    THROTTLE_FIRST_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("1s");
    /// Longest wait, up to 1day
    THROTTLE_LONGEST_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("15m");
    /// How long it takes until one failure of a device or an account is forgotten, up to 7days
    THROTTLE_FADE: Duration = value("DURATION", |text| duration(text, FADE)).default("30m");
    /// The same for one failure or registration of a network, up to 7days
    THROTTLE_NETWORK_FADE: Duration = value("DURATION", |text| duration(text, FADE)).default("30s");
}

const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
const FADE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(7 * 24);

/// A million is as good as no limit, and no sum of times comes near an overflow.
fn count(text: &str) -> Result<u32, String> {
    number(text, 1..=1_000_000)
}

pub(super) fn read(reader: &mut Reader<'_>) -> ThrottleLimits {
    let limits = ThrottleLimits {
        free_per_device: reader.value(&THROTTLE_FREE_PER_DEVICE),
        free_per_account: reader.value(&THROTTLE_FREE_PER_ACCOUNT),
        free_per_network: reader.value(&THROTTLE_FREE_PER_NETWORK),
        registrations_per_network: reader.value(&THROTTLE_REGISTRATIONS_PER_NETWORK),
        daily_per_account: reader.value(&THROTTLE_DAILY_PER_ACCOUNT),
        first_wait: reader.value(&THROTTLE_FIRST_WAIT),
        longest_wait: reader.value(&THROTTLE_LONGEST_WAIT),
        fade: reader.value(&THROTTLE_FADE),
        network_fade: reader.value(&THROTTLE_NETWORK_FADE),
    };
    reader.require_order(
        limits.first_wait <= limits.longest_wait,
        &THROTTLE_FIRST_WAIT,
        "must not be longer than",
        &THROTTLE_LONGEST_WAIT,
    );
    limits
}

/// Variables of earlier versions, and what replaces each of them.
pub(super) const REPLACED: [(&str, &str); 4] = [
    ("THROTTLE_FREE_PER_PAIR", "THROTTLE_FREE_PER_DEVICE"),
    ("THROTTLE_FREE_PER_ADDRESS", "THROTTLE_FREE_PER_NETWORK"),
    (
        "THROTTLE_REGISTRATIONS_PER_ADDRESS",
        "THROTTLE_REGISTRATIONS_PER_NETWORK",
    ),
    ("THROTTLE_KNOWN_FOR", "DEVICE_TOKEN_TTL"),
];
