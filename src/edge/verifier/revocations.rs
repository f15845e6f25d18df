//! The sessions that have ended while their access tokens live.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use crate::{Claims, seconds};

/// This machine's clock may be behind that of the service, and accept a token for longer.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Revocations are only added, in any order and more than once, and end by themselves.
///
/// An entry has 20 bytes for a session and 28 for a user, so a million take at most 61 MB.
#[derive(Default)]
pub struct Revocations {
    /// By `sid`.
    sessions: HashMap<Uuid, Second>,
    /// By `sub`.
    users: HashMap<Uuid, User>,
}

/// Since 1970. It lasts until 2106.
type Second = u32;

/// Tokens of a user that were issued before a time are refused.
#[derive(Clone, Copy)]
struct User {
    issued_before: Time,
    until: Second,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Time {
    second: Second,
    nanos: u32,
}

impl Revocations {
    pub fn add_session(&mut self, session: Uuid, until: SystemTime) {
        let kept = self.sessions.entry(session).or_default();
        *kept = rounded_up(until).max(*kept);
    }

    pub fn add_user(&mut self, user: Uuid, issued_before: SystemTime, until: SystemTime) {
        let added = User {
            issued_before: Time::of(issued_before),
            until: rounded_up(until),
        };
        let kept = self.users.entry(user).or_insert(added);
        kept.issued_before = kept.issued_before.max(added.issued_before);
        kept.until = kept.until.max(added.until);
    }

    pub fn include(&self, claims: &Claims) -> bool {
        self.sessions.contains_key(&claims.session_id)
            || self
                .users
                .get(&claims.user_id)
                .is_some_and(|user| user.issued_before.is_after(claims))
    }

    pub fn forget_expired(&mut self, now: SystemTime) {
        let oldest = whole_second(now.checked_sub(CLOCK_SKEW).unwrap_or(now));
        self.sessions.retain(|_, until| *until >= oldest);
        self.users.retain(|_, user| user.until >= oldest);
        release(&mut self.sessions);
        release(&mut self.users);
    }

    pub fn len(&self) -> usize {
        self.sessions.len() + self.users.len()
    }
}

impl Time {
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            second: whole_second(time),
            nanos: since.unwrap_or_default().subsec_nanos(),
        }
    }

    /// Whether the token was issued before. `iat` has whole seconds, so a token of this very second
    /// may have been issued before or after: it counts as after if its session started after. A
    /// reset of the password ends all sessions and starts such a one.
    fn is_after(self, token: &Claims) -> bool {
        let issued = Self::of(token.issued_at);
        let same_second = issued.second == self.second;
        issued < self && !(same_second && self.to_millis() <= started_at(token.session_id))
    }

    fn to_millis(self) -> u64 {
        u64::from(self.second) * 1000 + u64::from(self.nanos / 1_000_000)
    }
}

/// The milliseconds in a UUIDv7 (RFC 9562, section 5.7). 0 for others.
fn started_at(session: Uuid) -> u64 {
    if session.get_version_num() != 7 {
        return 0;
    }
    session.as_u64_pair().0 >> 16
}

fn whole_second(time: SystemTime) -> Second {
    Second::try_from(seconds(time)).unwrap_or(Second::MAX)
}

/// To the next whole second, so that an entry is never forgotten too early.
fn rounded_up(time: SystemTime) -> Second {
    let time = time.checked_add(Duration::from_nanos(999_999_999));
    time.map_or(Second::MAX, whole_second)
}

/// Gives memory back once most of it is unused. Giving back less at a time would
/// copy the whole map more often.
fn release<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() / 4 > map.len() {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<(Uuid, Second)>(), 20);
        assert_eq!(size_of::<(Uuid, User)>(), 28);
    }

    #[test]
    fn the_memory_of_forgotten_entries_is_given_back() {
        let mut revocations = Revocations::default();
        let (old, new) = (
            SystemTime::UNIX_EPOCH,
            SystemTime::UNIX_EPOCH + CLOCK_SKEW * 9,
        );
        for id in 0..10_000 {
            let until = if id < 10 { new } else { old };
            revocations.add_session(Uuid::from_u128(id), until);
            revocations.add_user(Uuid::from_u128(id), old, until);
        }
        revocations.forget_expired(new);
        assert_eq!(revocations.len(), 20);
        assert!(revocations.sessions.capacity() < 100);
        assert!(revocations.users.capacity() < 100);
    }
}
