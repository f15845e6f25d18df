//! Sessions, and the meaning of a presented refresh token for its session.

use std::time::Duration;

use super::{AccountClaims, Form, RefreshToken, SessionId, Timestamp, UserId};

/// The most sessions that one user has. All of them fit into one list: a session takes at most
/// 500 bytes of a response of 64 KiB.
pub const MAX_SESSIONS: i64 = 100;

/// How far the clocks of two replicas may differ when one checks a rotation of the other.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A session, and what its access tokens say about the account.
pub struct Refreshable {
    pub session: Session,
    pub claims: AccountClaims,
    /// A suspended user has no sessions, but for one that an older replica has started.
    pub is_suspended: bool,
}

pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    /// SHA-256 of the current token's secret.
    pub token_hash: Vec<u8>,
    /// SHA-256 of the previous token's secret.
    pub previous_token_hash: Option<Vec<u8>>,
    /// The current secret, sealed with the previous token.
    pub sealed_successor: Option<Vec<u8>>,
    /// The last rotation, or the start.
    pub rotated_at: Timestamp,
    /// The session ends then unless it is refreshed.
    pub expires_at: Timestamp,
    /// The session ends then in any case.
    pub ends_at: Timestamp,
    /// No access token of the session expires later, those of retries included. `None` if an
    /// older version of the service wrote the row.
    pub access_tokens_expire_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

pub struct LiveSession {
    pub id: SessionId,
    pub device_name: Option<String>,
    pub created_at: Timestamp,
    pub rotated_at: Timestamp,
    /// The earlier of the sliding and the absolute end.
    pub expires_at: Timestamp,
}

/// The times of a session that bound the life of its access tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    pub rotated_at: Timestamp,
    /// Whether it was ever rotated: only then a retry of Refresh may have got a later token.
    pub is_rotated: bool,
    pub ends_at: Timestamp,
    /// See [`Session::access_tokens_expire_at`].
    pub access_tokens_expire_at: Option<Timestamp>,
}

/// The time of a call that may be a retry, and how long after a rotation one is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub now: Timestamp,
    pub window: Duration,
}

/// The meaning of a refresh token that the database did not rotate.
pub enum Presented {
    /// This call rotated the token, but the answer of the database was lost.
    Current,
    /// The previous token within the retry window: after a lost reply or a race. The client
    /// gets the successor that exists already.
    Previous {
        /// The current token. `None` if the row is corrupt, or sealed with an unknown key.
        successor: Option<RefreshToken>,
    },
    /// An older token: another party has used it.
    Reused,
    Ended,
}

impl Session {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at && now < self.ends_at
    }

    /// Decides what a refresh token of this session is, after the statement that would have
    /// replaced it by `successor`.
    pub fn check<'k>(
        &self,
        token: &RefreshToken,
        successor: &RefreshToken,
        forms: impl Iterator<Item = Form<'k>>,
        retry: Retry,
    ) -> Presented {
        if !self.is_live(retry.now) {
            return Presented::Ended;
        }
        if successor.matches(&self.token_hash) {
            return Presented::Current;
        }
        let previous = self.previous_token_hash.as_deref();
        let is_previous = previous.is_some_and(|hash| token.matches(hash));
        if !is_previous || !self.is_in_time(retry) {
            return Presented::Reused;
        }
        let sealed = self.sealed_successor.as_deref().unwrap_or_default();
        let mut unsealed = forms.filter_map(|form| token.unseal(sealed, form));
        let successor = unsealed.find(|successor| successor.matches(&self.token_hash));
        Presented::Previous { successor }
    }

    /// The elapsed time is zero if this clock is a little behind the last rotation. If it is
    /// further behind, the rotation's clock was ahead: the window would stay open for as long.
    fn is_in_time(&self, Retry { now, window }: Retry) -> bool {
        !window.is_zero()
            && now.since(self.rotated_at) <= window
            && self.rotated_at.since(now) <= CLOCK_SKEW
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::DataKeys;

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
    const WINDOW: Duration = Duration::from_secs(30);
    const MICROSECOND: Duration = Duration::from_micros(1);
    const HOUR: Duration = Duration::from_hours(1);

    /// A session that was rotated from `previous` to `current` at `NOW`.
    struct Rotated {
        keys: DataKeys,
        session: Session,
        previous: RefreshToken,
        current: RefreshToken,
    }

    impl Rotated {
        fn new() -> Self {
            let keys = DataKeys::for_test(["a"]);
            let key = Form::Keyed(keys.current());
            let previous = RefreshToken::generate(key).unwrap();
            let current = previous.generate_successor(key).unwrap();
            let session = Session {
                id: SessionId::new(NOW),
                user_id: UserId::new(NOW),
                token_hash: current.secret_hash().to_vec(),
                previous_token_hash: Some(previous.secret_hash().to_vec()),
                sealed_successor: Some(previous.seal(&current, key).to_vec()),
                rotated_at: NOW,
                expires_at: NOW + HOUR,
                ends_at: NOW + HOUR,
                access_tokens_expire_at: None,
                revoked_at: None,
            };
            Self {
                keys,
                session,
                previous,
                current,
            }
        }

        fn check(&self, token: &RefreshToken, now: Timestamp, window: Duration) -> Presented {
            let successor = token.generate_successor(Form::Keyed(self.keys.current()));
            let successor = successor.unwrap();
            let retry = Retry { now, window };
            let forms = self.keys.all().map(Form::Keyed);
            self.session.check(token, &successor, forms, retry)
        }

        fn check_previous(&self, now: Timestamp, window: Duration) -> Presented {
            self.check(&self.previous, now, window)
        }

        /// Whether the client gets the token that the session has.
        fn is_retry(&self, presented: &Presented) -> bool {
            let hash = self.current.secret_hash();
            matches!(presented, Presented::Previous { successor: Some(it) } if it.matches(&hash))
        }
    }

    #[test]
    fn the_previous_token_is_a_retry_until_the_window_closes() {
        let rotated = Rotated::new();
        assert!(rotated.is_retry(&rotated.check_previous(NOW, WINDOW)));
        assert!(rotated.is_retry(&rotated.check_previous(NOW + WINDOW, WINDOW)));
        let late = rotated.check_previous(NOW + WINDOW + MICROSECOND, WINDOW);
        assert!(matches!(late, Presented::Reused));
    }

    #[test]
    fn a_clock_behind_by_more_than_a_minute_sees_no_retry() {
        let rotated = Rotated::new();
        let minute = Duration::from_mins(1);
        for behind in [MICROSECOND, WINDOW, minute] {
            assert!(rotated.is_retry(&rotated.check_previous(NOW - behind, WINDOW)));
        }
        for behind in [minute + MICROSECOND, HOUR, 1000 * HOUR] {
            let presented = rotated.check_previous(NOW - behind, WINDOW);
            assert!(matches!(presented, Presented::Reused), "{behind:?}");
        }
    }

    #[test]
    fn without_a_window_no_token_is_a_retry() {
        let rotated = Rotated::new();
        let presented = rotated.check_previous(NOW, Duration::ZERO);
        assert!(matches!(presented, Presented::Reused));
    }

    #[test]
    fn an_older_token_is_reuse() {
        let rotated = Rotated::new();
        let key = Form::Keyed(rotated.keys.current());
        let older = rotated.current.generate_successor(key).unwrap();
        let presented = rotated.check(&older, NOW, WINDOW);
        assert!(matches!(presented, Presented::Reused));
    }

    #[test]
    fn a_session_that_was_never_rotated_has_no_previous_token() {
        let mut rotated = Rotated::new();
        rotated.session.previous_token_hash = None;
        rotated.session.sealed_successor = None;
        let presented = rotated.check_previous(NOW, WINDOW);
        assert!(matches!(presented, Presented::Reused));
    }

    #[test]
    fn a_rotation_whose_answer_was_lost_is_found_again() {
        let rotated = Rotated::new();
        let (forms, window) = (rotated.keys.all().map(Form::Keyed), Duration::ZERO);
        let retry = Retry { now: NOW, window };
        let (session, previous) = (&rotated.session, &rotated.previous);
        let presented = session.check(previous, &rotated.current, forms, retry);
        assert!(matches!(presented, Presented::Current));
    }

    #[test]
    fn a_successor_that_was_sealed_with_a_previous_key_is_found() {
        let mut rotated = Rotated::new();
        rotated.keys = DataKeys::for_test(["b", "a"]);
        assert!(rotated.is_retry(&rotated.check_previous(NOW, WINDOW)));
        rotated.keys = DataKeys::for_test(["b"]);
        let presented = rotated.check_previous(NOW, WINDOW);
        assert!(matches!(presented, Presented::Previous { successor: None }));
    }

    #[test]
    fn a_token_of_an_ended_session_is_refused() {
        let ends: [fn(&mut Session); 3] = [
            |session| session.revoked_at = Some(NOW),
            |session| session.expires_at = NOW,
            |session| session.ends_at = NOW,
        ];
        for end in ends {
            let mut rotated = Rotated::new();
            assert!(rotated.session.is_live(NOW));
            end(&mut rotated.session);
            let presented = rotated.check_previous(NOW, WINDOW);
            assert!(matches!(presented, Presented::Ended));
        }
    }

    #[test]
    fn a_corrupt_sealed_successor_is_not_handed_out() {
        for corrupt in [None, Some(vec![]), Some(vec![7; 32]), Some(vec![7; 33])] {
            let mut rotated = Rotated::new();
            rotated.session.sealed_successor = corrupt;
            let presented = rotated.check_previous(NOW, WINDOW);
            assert!(matches!(presented, Presented::Previous { successor: None }));
        }
    }

    proptest! {
        #[test]
        fn only_time_and_window_separate_a_retry_from_reuse(
            elapsed in -100_000_000_i64..100_000_000,
            window in 0_u64..100_000_000,
        ) {
            let rotated = Rotated::new();
            let now = Timestamp::from_micros(NOW.as_micros() + elapsed);
            let presented = rotated.check_previous(now, Duration::from_micros(window));
            let in_time = elapsed >= -60_000_000 && u64::try_from(elapsed).unwrap_or(0) <= window;
            prop_assert_eq!(rotated.is_retry(&presented), window > 0 && in_time);
            prop_assert_eq!(matches!(presented, Presented::Reused), window == 0 || !in_time);
        }
    }
}
