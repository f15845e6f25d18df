//! What the edge knows: the keys, the revocations, and how fresh they are.
//!
//! Freshness is measured by the monotonic clock, because a change of the wall clock must neither
//! refuse all users nor hide that the stream is silent. Only a heartbeat or the end of a snapshot
//! says that all revocations are known: a replica whose database fails still sends its keys.

use std::{
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use realchat_verifier::{Claims, Edge, KeySet, Refusal};
use tokio::time::Instant;

use super::{Settings, WhenStale};
use crate::model::Timestamp;

/// One lock for checks and updates. Most updates change one entry, which takes microseconds. Now
/// and then expired revocations are forgotten, which takes milliseconds for a million of them.
pub struct Knowledge {
    known: RwLock<Known>,
    max_staleness: Duration,
    when_stale: WhenStale,
}

#[derive(Default)]
struct Known {
    edge: Edge,
    keys_max_age: Duration,
    /// The last message of a stream, by both clocks.
    heard: Option<(Instant, Timestamp)>,
    /// When all revocations were known.
    complete: Option<Instant>,
    /// The keys were too old. New ones are not used before all revocations are known too.
    keys_are_dropped: bool,
}

/// How much is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There has been no complete snapshot yet.
    Starting,
    Fresh,
    /// New revocations have been unknown for `EDGE_MAX_STALENESS`.
    Stale,
    /// There has been no message for so long that the keys may have changed.
    KeysTooOld,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// Too little is known to accept any token.
    Unavailable,
    Refused(Refusal),
}

impl Knowledge {
    pub fn new(settings: &Settings) -> Self {
        Self {
            known: RwLock::default(),
            max_staleness: settings.max_staleness,
            when_stale: settings.when_stale,
        }
    }

    pub fn state(&self, now: Instant) -> State {
        self.read().state(self.max_staleness, now)
    }

    /// Whether tokens are accepted.
    pub fn answers(&self, now: Instant) -> bool {
        self.serves(self.state(now))
    }

    pub fn revocations(&self) -> usize {
        self.read().edge.revocations()
    }

    /// The time of the last message.
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.read().heard.map(|(_, time)| time)
    }

    pub(super) fn verify(
        &self,
        token: &str,
        now: Instant,
        time: Timestamp,
    ) -> Result<Claims, Denial> {
        let known = self.read();
        if !self.serves(known.state(self.max_staleness, now)) {
            return Err(Denial::Unavailable);
        }
        known
            .edge
            .verify(token, time.into())
            .map_err(Denial::Refused)
    }

    /// A message has come; its content follows.
    pub(super) fn hear(&self, now: Instant, time: Timestamp) {
        let mut known = self.write();
        // They may have been replaced meanwhile.
        known.drop_old_keys(now);
        known.heard = Some((now, time));
    }

    /// All revocations are known now.
    pub(super) fn complete(&self, now: Instant) {
        let mut known = self.write();
        known.complete = Some(now);
        known.keys_are_dropped = false;
    }

    pub(super) fn set_keys(&self, keys: KeySet, max_age: Duration) {
        let mut known = self.write();
        known.edge.set_keys(keys);
        known.keys_max_age = max_age;
    }

    pub(super) fn revoke(&self, revoke: impl FnOnce(&mut Edge)) {
        revoke(&mut self.write().edge);
    }

    pub(super) fn forget_expired(&self, time: Timestamp) {
        self.write().edge.forget_expired(time.into());
    }

    pub(super) fn drop_old_keys(&self, now: Instant) {
        self.write().drop_old_keys(now);
    }

    fn serves(&self, state: State) -> bool {
        match state {
            State::Fresh => true,
            State::Stale => self.when_stale == WhenStale::Serve,
            State::Starting | State::KeysTooOld => false,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn state(&self, max_staleness: Duration, now: Instant) -> State {
        let Some(complete) = self.complete else {
            return State::Starting;
        };
        if self.keys_are_dropped || self.keys_are_old(now) {
            State::KeysTooOld
        } else if now.duration_since(complete) > max_staleness {
            State::Stale
        } else {
            State::Fresh
        }
    }

    /// Keys that are too old are not kept. The revocations are: the next stream completes them.
    fn drop_old_keys(&mut self, now: Instant) {
        // Keys that came since then stay.
        if !self.keys_are_dropped && self.keys_are_old(now) {
            self.edge.set_keys(no_keys());
            self.keys_are_dropped = true;
        }
    }

    /// Never before the first ones.
    fn keys_are_old(&self, now: Instant) -> bool {
        let heard = self.heard.map(|(at, _)| now.duration_since(at));
        !self.keys_max_age.is_zero() && heard.is_some_and(|age| age > self.keys_max_age)
    }
}

/// With no key, every token is refused.
fn no_keys() -> KeySet {
    KeySet {
        keys: Vec::new(),
        issuer: String::new(),
        audience: String::new(),
        longest_life: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STALENESS: Duration = Duration::from_mins(1);
    const KEYS_MAX_AGE: Duration = Duration::from_mins(5);

    /// Knowledge that was complete at the returned time.
    fn complete(when_stale: WhenStale) -> (Knowledge, Instant) {
        let knowledge = Knowledge {
            known: RwLock::default(),
            max_staleness: MAX_STALENESS,
            when_stale,
        };
        let now = Instant::now();
        knowledge.hear(now, Timestamp::from_micros(0));
        knowledge.set_keys(no_keys(), KEYS_MAX_AGE);
        assert_eq!(knowledge.state(now), State::Starting);
        knowledge.complete(now);
        (knowledge, now)
    }

    #[test]
    fn freshness_ends_with_the_last_time_at_which_all_revocations_were_known() {
        let (knowledge, start) = complete(WhenStale::Serve);
        let late = start + MAX_STALENESS + Duration::from_secs(1);
        assert_eq!(knowledge.state(start + MAX_STALENESS), State::Fresh);
        assert_eq!(knowledge.state(late), State::Stale);
        // A replica without its database sends only keys.
        knowledge.hear(late, Timestamp::from_micros(0));
        knowledge.set_keys(no_keys(), KEYS_MAX_AGE);
        assert_eq!(knowledge.state(late), State::Stale);
        knowledge.complete(late);
        assert_eq!(knowledge.state(late), State::Fresh);
    }

    #[test]
    fn stale_knowledge_answers_only_if_the_operator_wants_it() {
        for (when_stale, expected) in [(WhenStale::Serve, true), (WhenStale::Refuse, false)] {
            let (knowledge, start) = complete(when_stale);
            assert!(knowledge.answers(start));
            let stale = knowledge.answers(start + MAX_STALENESS + Duration::from_secs(1));
            assert_eq!(stale, expected, "{when_stale:?}");
        }
    }

    #[test]
    fn old_keys_are_dropped_until_all_revocations_are_known_again() {
        let (knowledge, start) = complete(WhenStale::Serve);
        let late = start + KEYS_MAX_AGE + Duration::from_secs(1);
        assert!(knowledge.answers(start + KEYS_MAX_AGE));
        assert_eq!(knowledge.state(late), State::KeysTooOld);
        knowledge.hear(late, Timestamp::from_micros(0));
        knowledge.set_keys(no_keys(), KEYS_MAX_AGE);
        assert_eq!(knowledge.state(late), State::KeysTooOld);
        knowledge.complete(late);
        assert_eq!(knowledge.state(late), State::Fresh);
    }
}
