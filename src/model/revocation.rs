//! Access tokens that gateways must refuse although they have not expired.

use std::{fmt, iter, time::Duration};

use super::{Act, RevocationId, SessionEnd, SessionId, Timestamp, TokenTimes, UserId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub tokens: RevokedTokens,
    /// When the last of the tokens expires.
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedTokens {
    Session(SessionId),
    /// Those of all sessions that the user had. Their `iat` is before this time.
    User(UserId, Timestamp),
}

/// A revocation as the database keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RecordedRevocation {
    pub id: RevocationId,
    pub revocation: Revocation,
    /// By the clock of the database. It may commit later.
    pub recorded_at: Timestamp,
}

impl Revocation {
    /// A gateway whose clock is behind accepts tokens for a while after `until`.
    pub const CLOCK_SKEW: Duration = Duration::from_mins(1);

    /// Whether a gateway needs it.
    pub fn holds(&self, now: Timestamp) -> bool {
        now <= self.until + Self::CLOCK_SKEW
    }

    /// For a session that an act ended.
    pub fn of_session(id: SessionId, times: TokenTimes, end: SessionEnd, act: &Act) -> Self {
        Self {
            tokens: RevokedTokens::Session(id),
            until: end.tokens_expire_at(times, act),
        }
    }

    /// For a user all of whose sessions an act ended.
    ///
    /// Some of their tokens may be younger than this act: another replica's clock may be ahead, and
    /// a retry of Refresh gets a token later than the rotation. These sessions are named too. (A
    /// later time for the user would also refuse the session that a reset of the password starts
    /// now.)
    pub fn of_user(
        id: UserId,
        ended: &[(SessionId, TokenTimes)],
        end: SessionEnd,
        act: &Act,
    ) -> Vec<Self> {
        let oldest_of_a_retry = act.now + end.access_token_ttl - Self::CLOCK_SKEW;
        let may_be_younger = |times: &TokenTimes| {
            let last = times.access_tokens_expire_at;
            let is_retried = times.is_rotated && last.is_none_or(|at| at > oldest_of_a_retry);
            times.rotated_at > act.now || is_retried
        };
        let mut issued_before = act.now;
        if ended.iter().any(|(_, times)| times.rotated_at == act.now) {
            issued_before = act.now + Duration::from_micros(1);
        }
        let expire_at = ended
            .iter()
            .map(|(_, times)| end.tokens_expire_at(*times, act));
        let user = Self {
            tokens: RevokedTokens::User(id, issued_before),
            until: expire_at.fold(act.now + end.access_token_ttl, Timestamp::max),
        };
        let younger = ended.iter().filter(|(_, times)| may_be_younger(times));
        let younger = younger.map(|&(id, times)| Self::of_session(id, times, end, act));
        iter::once(user).chain(younger).collect()
    }
}

/// The time up to which a watcher has received all revocations that a replica had read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(Timestamp);

impl Cursor {
    const PREFIX: &str = "r1-";

    /// A watcher that was away for longer starts anew: most of what it knew has expired.
    pub const LONGEST: Duration = Duration::from_hours(1);

    pub const fn new(read_at: Timestamp) -> Self {
        Self(read_at)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let micros = digits.parse().ok()?;
        let cursor = Self(Timestamp::from_micros(micros));
        (cursor.to_string() == text).then_some(cursor)
    }

    pub const fn read_at(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::SessionEndReason;

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_001);
    const USER: UserId = UserId::from_bytes([7; 16]);
    const TTL: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn of_user(ended: &[(SessionId, TokenTimes)]) -> Vec<(RevokedTokens, Timestamp)> {
        let act = Act {
            now: NOW,
            traceparent: None,
            administrator: None,
        };
        let end = SessionEnd {
            reason: SessionEndReason::Suspended,
            access_token_ttl: TTL,
        };
        let revoked = Revocation::of_user(USER, ended, end, &act).into_iter();
        revoked.map(|it| (it.tokens, it.until)).collect()
    }

    fn rotated_at(number: u8, rotated_at: Timestamp) -> (SessionId, TokenTimes) {
        let times = TokenTimes {
            rotated_at,
            is_rotated: false,
            ends_at: rotated_at + TTL * 100,
            access_tokens_expire_at: Some(rotated_at + TTL + SECOND),
        };
        (SessionId::from_bytes([number; 16]), times)
    }

    #[test]
    fn all_sessions_of_a_user_are_one_revocation_and_those_from_the_future_are_named() {
        let user = |issued_before, until| (RevokedTokens::User(USER, issued_before), until);
        assert_eq!(of_user(&[]), [user(NOW, NOW + TTL)]);
        let earlier = rotated_at(1, NOW - SECOND * 10);
        assert_eq!(of_user(&[earlier]), [user(NOW, NOW + TTL)]);
        let just_after = NOW + Duration::from_micros(1);
        let until = NOW + TTL + SECOND;
        assert_eq!(
            of_user(&[rotated_at(2, NOW), earlier]),
            [user(just_after, until)]
        );
        let ahead = rotated_at(3, NOW + SECOND);
        let session = RevokedTokens::Session(ahead.0);
        let until = NOW + TTL + SECOND * 2;
        assert_eq!(
            of_user(&[earlier, ahead]),
            [user(NOW, until), (session, until)]
        );
    }

    #[test]
    fn only_the_text_of_a_cursor_is_one() {
        let cursor = Cursor::new(Timestamp::from_micros(1_764_024_172_000_001));
        assert_eq!(cursor.to_string(), "r1-1764024172000001");
        for malformed in [
            "",
            "r1-",
            "r1",
            "r2-1764024172000001",
            "1764024172000001",
            "r1-+1764024172000001",
            "r1-01764024172000001",
            "r1-1764024172000001 ",
            "r1-99999999999999999999",
            "R1-1764024172000001",
        ] {
            assert_eq!(Cursor::parse(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(micros: i64) {
            let cursor = Cursor::new(Timestamp::from_micros(micros));
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }

        #[test]
        fn no_text_breaks_the_parser(text: String) {
            let _ = Cursor::parse(&text);
        }
    }
}
