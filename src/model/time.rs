//! Time, passed as an argument.
//!
//! A use case reads its [`Clock`] once for each transaction and passes the result down. The row,
//! the event and the reply of one act therefore have the same time, and tests control it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, SecondsFormat, Utc};

/// A point in time in whole microseconds since the Unix epoch. Both databases store whole
/// microseconds, so a stored time is read back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Reads a time in RFC 3339 with any offset. Nanoseconds are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self(time.timestamp_micros()))
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch (an RFC 7519 `NumericDate`).
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Without the fraction of a second.
    #[must_use]
    pub const fn whole_seconds(self) -> Self {
        Self(self.as_secs() * 1_000_000)
    }

    /// The time since `earlier`; zero if `earlier` is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// A time before the epoch becomes the epoch.
impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        Self::UNIX_EPOCH + time.since(Timestamp(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds: `2026-11-24T22:42:52.000001Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// A trait, because tests replace it.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_rfc_3339_with_six_digits() {
        let time = Timestamp::from_micros(1_764_024_172_000_001);
        assert_eq!(time.to_string(), "2025-11-24T22:42:52.000001Z");
    }

    #[test]
    fn a_time_is_read_with_its_offset() {
        let parse = |text| Timestamp::parse(text).map(|time| time.to_string());
        let time = Some("2025-11-24T22:42:52.000001Z".to_owned());
        assert_eq!(parse("2025-11-24T22:42:52.000001999Z"), time);
        assert_eq!(parse("2025-11-25T04:12:52.000001+05:30"), time);
        for text in [
            "",
            "2025-11-24",
            "2025-11-24T22:42:52",
            "24.11.2025",
            "1764024172",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_since_the_future_is_zero() {
        let now = Timestamp::from_micros(5);
        assert_eq!(now.since(now + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!((now + Duration::from_secs(1)).since(now).as_secs(), 1);
    }
}
