use std::time::Duration;

use super::Timestamp;

/// The time after which the failures of an account that reach a hash are counted anew.
pub const THROTTLE_DAY: Duration = Duration::from_hours(24);

/// How many attempts may fail without a wait, and how long the wait is after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Free failures of an account from one caller address, or without an address.
    pub free_per_pair: u32,
    /// Free failures of an account.
    pub free_per_account: u32,
    /// Free failures from a caller address.
    pub free_per_address: u32,
    /// Free registrations from a caller address.
    pub registrations_per_address: u32,
    /// Failures of an account that reach a hash in one day.
    pub daily_per_account: u32,
    /// The wait after the free failures. Each further failure doubles it.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// The time in which one failure is forgotten.
    pub fade: Duration,
    /// How long a pair of account and address is known after a login.
    pub known_for: Duration,
}

/// The stored times of a counter that hold attempts back.
#[derive(Clone, Copy, Debug)]
pub struct StoredBlock {
    pub blocked_until: Timestamp,
    pub day_failures: i64,
    pub day_ends_at: Timestamp,
}

impl ThrottleLimits {
    /// The time until which a counter holds attempts back, if it does.
    ///
    /// No wait is longer than the longest one, and no day longer than a day. A stored time
    /// beyond that was written by a clock that was ahead, and counts as past. The statement
    /// that counts an attempt has the same conditions.
    pub fn held_until(&self, stored: StoredBlock, now: Timestamp) -> Option<Timestamp> {
        let is_due = |end: Timestamp, longest| now < end && end <= now + longest;
        let block = Some(stored.blocked_until).filter(|end| is_due(*end, self.longest_wait));
        let is_spent = stored.day_failures >= i64::from(self.daily_per_account);
        let day = Some(stored.day_ends_at).filter(|end| is_spent && is_due(*end, THROTTLE_DAY));
        block.max(day)
    }

    /// The time after which every counter is back at zero.
    pub fn longest_fade(&self) -> Duration {
        let per_account = self.free_per_pair.max(self.free_per_account);
        let per_address = self.free_per_address.max(self.registrations_per_address);
        self.fade * per_account.max(per_address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
    const MICROSECOND: Duration = Duration::from_micros(1);
    const NEVER: Timestamp = Timestamp::from_micros(0);
    const LIMITS: ThrottleLimits = ThrottleLimits {
        free_per_pair: 5,
        free_per_account: 20,
        free_per_address: 50,
        registrations_per_address: 50,
        daily_per_account: 100,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_mins(15),
        fade: Duration::from_mins(30),
        known_for: Duration::from_hours(720),
    };

    fn block(blocked_until: Timestamp) -> StoredBlock {
        StoredBlock {
            blocked_until,
            day_failures: 0,
            day_ends_at: NEVER,
        }
    }

    fn day(day_ends_at: Timestamp, day_failures: i64) -> StoredBlock {
        StoredBlock {
            blocked_until: NEVER,
            day_failures,
            day_ends_at,
        }
    }

    #[test]
    fn a_block_lasts_until_its_end_but_not_longer_than_the_longest_wait() {
        let longest = NOW + LIMITS.longest_wait;
        assert_eq!(LIMITS.held_until(block(NOW), NOW), None);
        let end = NOW + MICROSECOND;
        assert_eq!(LIMITS.held_until(block(end), NOW), Some(end));
        assert_eq!(LIMITS.held_until(block(longest), NOW), Some(longest));
        for ahead in [
            MICROSECOND,
            Duration::from_hours(1),
            Duration::from_hours(720),
        ] {
            assert_eq!(LIMITS.held_until(block(longest + ahead), NOW), None);
        }
    }

    #[test]
    fn a_spent_day_lasts_until_its_end_but_not_longer_than_a_day() {
        let end = NOW + THROTTLE_DAY;
        assert_eq!(LIMITS.held_until(day(end, 99), NOW), None);
        assert_eq!(LIMITS.held_until(day(end, 100), NOW), Some(end));
        assert_eq!(LIMITS.held_until(day(end + MICROSECOND, 100), NOW), None);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_configured(
            blocked_until: i64, day_ends_at: i64, day_failures in 0..200_i64,
        ) {
            let [blocked_until, day_ends_at] =
                [blocked_until, day_ends_at].map(Timestamp::from_micros);
            let stored = StoredBlock { blocked_until, day_failures, day_ends_at };
            if let Some(until) = LIMITS.held_until(stored, NOW) {
                let is_day = until == day_ends_at && day_failures >= 100;
                let longest = if is_day { THROTTLE_DAY } else { LIMITS.longest_wait };
                prop_assert!(until > NOW && until.since(NOW) <= longest);
            }
        }
    }
}
