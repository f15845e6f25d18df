//! Verifies access tokens without a call, from the keys and the revocations that [`watch`]
//! receives.
//!
//! The crate `realchat_verifier` has the rules for tokens. This file keeps what it needs to know,
//! and answers that it is unavailable before the first snapshot, and once it is `max_age` ago that
//! all revocations were known. Only the end of a snapshot and a heartbeat say that they are: a
//! replica without its database still sends the keys. The keys are secret: each can issue tokens.
//!
//! [`watch`]: crate::watch

use std::{
    mem,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use prost_types::Timestamp;
use realchat_verifier::{Claims, Edge, Key};
use tokio::{sync::watch, time::Instant};
use zeroize::Zeroizing;

use crate::{
    error::Error,
    proto::{
        Heartbeat, KeySet, Revocation, SigningKey, SnapshotEnd, edge_update::Update,
        revocation::Tokens,
    },
};

/// The only algorithm of access tokens. The public key of another algorithm must not become a
/// secret of this one, because then everyone could issue tokens.
const ALGORITHM: &str = "HS256";

/// The service has no shorter key. An empty field, for example, would let everyone issue tokens.
const SHORTEST_SECRET: usize = 32;

/// A cleanup looks at every revocation.
const BETWEEN_CLEANUPS: Duration = Duration::from_mins(1);

pub struct Verifier {
    known: RwLock<Known>,
    has_snapshot: watch::Sender<bool>,
}

struct Known {
    edge: Edge,
    /// How long tokens are accepted after `complete_at`.
    max_age: Duration,
    /// When all revocations were known.
    complete_at: Option<Instant>,
    /// Where the next stream begins. Empty before the first snapshot.
    cursor: String,
    /// The stream has sent the begin of a snapshot and not its end.
    is_in_snapshot: bool,
    cleaned_at: Instant,
    /// The start of the process, by the monotonic clock and by the wall clock.
    started: (Instant, SystemTime),
}

impl Default for Verifier {
    /// It knows nothing, and refuses all tokens.
    fn default() -> Self {
        let now = Instant::now();
        let known = Known {
            edge: Edge::default(),
            max_age: Duration::ZERO,
            complete_at: None,
            cursor: String::new(),
            is_in_snapshot: false,
            cleaned_at: now,
            started: (now, SystemTime::now()),
        };
        Self {
            known: RwLock::new(known),
            has_snapshot: watch::Sender::new(false),
        }
    }
}

impl Verifier {
    pub fn verify(&self, token: &str) -> Result<Claims, Error> {
        let known = self.known();
        if !known.is_recent() {
            return Err(Error::Unavailable);
        }
        let claims = known.edge.verify(token, SystemTime::now());
        claims.map_err(|_| Error::InvalidToken)
    }

    /// Completes when the first snapshot is complete.
    pub async fn ready(&self) {
        let mut has_snapshot = self.has_snapshot.subscribe();
        let ready = has_snapshot.wait_for(|has_snapshot| *has_snapshot).await;
        ready.expect("the sender lives as long as self");
    }

    /// Returns the cursor for a new stream.
    pub(crate) fn begin_stream(&self) -> String {
        let mut known = self.known_mut();
        known.is_in_snapshot = false;
        known.cursor.clone()
    }

    pub(crate) fn forget_cursor(&self) {
        self.known_mut().cursor.clear();
    }

    /// `None` if the message is malformed.
    pub(crate) fn receive(&self, update: Update) -> Option<()> {
        let mut known = self.known_mut();
        match update {
            Update::Keys(keys) => known.set_keys(keys)?,
            // A snapshot adds to what is known: revocations end only by themselves.
            Update::SnapshotBegin(_) => known.is_in_snapshot = true,
            Update::Revoked(revocation) => known.revoke(revocation)?,
            Update::SnapshotEnd(SnapshotEnd { cursor }) => {
                known.end_snapshot(cursor)?;
                self.has_snapshot.send_replace(true);
            }
            Update::Heartbeat(Heartbeat { cursor }) => known.heartbeat(cursor),
        }
        Some(())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().expect("no panic while locked")
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no panic while locked")
    }
}

impl Known {
    fn is_recent(&self) -> bool {
        let age = self.complete_at.map(|at| at.elapsed());
        age.is_some_and(|age| age <= self.max_age)
    }

    fn set_keys(&mut self, set: KeySet) -> Option<()> {
        let keys = set.verification_keys.into_iter();
        let keys = keys.filter(|key| key.algorithm == ALGORITHM);
        let keys = realchat_verifier::KeySet {
            keys: keys.map(key).collect::<Option<_>>()?,
            issuer: set.issuer,
            audience: set.audience,
            longest_life: duration(set.access_token_ttl)?,
        };
        self.max_age = duration(set.max_age)?;
        self.edge.set_keys(keys);
        Some(())
    }

    fn revoke(&mut self, revocation: Revocation) -> Option<()> {
        let until = time(revocation.until)?;
        match revocation.tokens? {
            Tokens::SessionId(id) => self.edge.revoke_session(id.parse().ok()?, until),
            Tokens::User(user) => {
                let (id, issued_before) = (user.user_id.parse().ok()?, time(user.issued_before)?);
                self.edge.revoke_user(id, issued_before, until);
            }
        }
        Some(())
    }

    /// `None` if the snapshot did not begin.
    fn end_snapshot(&mut self, cursor: String) -> Option<()> {
        let is_whole = mem::take(&mut self.is_in_snapshot);
        is_whole.then(|| self.complete(cursor))
    }

    fn heartbeat(&mut self, cursor: String) {
        // Before the end of a snapshot, a heartbeat says only that the connection works.
        if !self.cursor.is_empty() && !self.is_in_snapshot {
            self.complete(cursor);
            self.clean_up(SystemTime::now());
        }
    }

    /// All revocations up to this cursor are known.
    fn complete(&mut self, cursor: String) {
        self.cursor = cursor;
        self.complete_at = Some(Instant::now());
    }

    /// Forgets expired revocations. The service does not send them again, so a wall clock that is
    /// ahead for some time must not make it forget others: the time is not later than by the
    /// monotonic clock since the start.
    fn clean_up(&mut self, wall_clock: SystemTime) {
        if self.cleaned_at.elapsed() >= BETWEEN_CLEANUPS {
            let (at, time) = self.started;
            self.edge
                .forget_expired(wall_clock.min(time + at.elapsed()));
            self.cleaned_at = Instant::now();
        }
    }
}

/// Wipes the secret once the key has hashed it.
fn key(key: SigningKey) -> Option<Key> {
    let secret = Zeroizing::new(key.secret);
    (secret.len() >= SHORTEST_SECRET).then(|| Key::new(key.key_id, &secret))
}

fn duration(field: Option<prost_types::Duration>) -> Option<Duration> {
    field?.try_into().ok()
}

fn time(field: Option<Timestamp>) -> Option<SystemTime> {
    field?.try_into().ok()
}

#[cfg(test)]
mod tests;
