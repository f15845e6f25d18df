//! Access tokens that gateways must refuse although they have not expired.

use std::{fmt, time::Duration};

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

    /// For a user all of whose sessions an act ended. Another replica whose clock is ahead may
    /// have issued a token a moment ago that is from the future by this one's.
    pub fn of_user(
        id: UserId,
        ended: impl Iterator<Item = TokenTimes> + Clone,
        end: SessionEnd,
        act: &Act,
    ) -> Self {
        let after = |times: TokenTimes| times.rotated_at + Duration::from_micros(1);
        let issued_before = ended.clone().map(after).fold(act.now, Timestamp::max);
        let expire_at = ended.map(|times| end.tokens_expire_at(times, act));
        Self {
            tokens: RevokedTokens::User(id, issued_before),
            until: expire_at.fold(act.now + end.access_token_ttl, Timestamp::max),
        }
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
    const TTL: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn of_user(ended: &[TokenTimes]) -> (Timestamp, Timestamp) {
        let act = Act {
            now: NOW,
            traceparent: None,
            administrator: None,
        };
        let end = SessionEnd {
            reason: SessionEndReason::Suspended,
            access_token_ttl: TTL,
        };
        let user = UserId::new(NOW);
        let revoked = Revocation::of_user(user, ended.iter().copied(), end, &act);
        match revoked.tokens {
            RevokedTokens::User(id, issued_before) if id == user => (issued_before, revoked.until),
            other => panic!("{other:?}"),
        }
    }

    fn rotated_at(rotated_at: Timestamp) -> TokenTimes {
        TokenTimes {
            rotated_at,
            ends_at: rotated_at + TTL * 100,
            access_tokens_expire_at: Some(rotated_at + TTL + SECOND),
        }
    }

    #[test]
    fn all_sessions_of_a_user_end_with_the_last_token_that_any_replica_has_issued() {
        assert_eq!(of_user(&[]), (NOW, NOW + TTL));
        let earlier = rotated_at(NOW - SECOND * 10);
        assert_eq!(of_user(&[earlier]), (NOW, NOW + TTL));
        let ahead = rotated_at(NOW + SECOND);
        let just_after = NOW + SECOND + Duration::from_micros(1);
        assert_eq!(
            of_user(&[earlier, ahead, earlier]),
            (just_after, NOW + TTL + SECOND * 2)
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
