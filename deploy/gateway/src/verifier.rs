//! Verifies access tokens without a call, from the keys and the revocations that [`watch`] hears.
//!
//! The crate `realchat_verifier` has the rules for tokens. This file keeps what it needs to know,
//! and refuses all tokens before the first snapshot and when nothing was heard for `max_age`. The
//! keys are secret: each can issue tokens.
//!
//! [`watch`]: crate::watch

use std::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use prost_types::Timestamp;
use realchat_verifier::{Claims, Edge, Key};
use tokio::{sync::watch, time::Instant};

use crate::{
    error::Error,
    proto::{Heartbeat, KeySet, Revocation, SnapshotEnd, edge_update::Update, revocation::Tokens},
};

/// Each time takes a look at every revocation.
const BETWEEN_CLEANUPS: Duration = Duration::from_mins(1);

pub struct Verifier {
    known: RwLock<Known>,
    has_snapshot: watch::Sender<bool>,
}

struct Known {
    edge: Edge,
    /// How long this may be used without a message.
    max_age: Duration,
    heard_at: Instant,
    cleaned_at: Instant,
    /// Where the next stream begins. Empty before the first snapshot.
    cursor: String,
}

impl Default for Verifier {
    /// It knows nothing, and refuses all tokens.
    fn default() -> Self {
        let known = Known {
            edge: Edge::new(),
            max_age: Duration::ZERO,
            heard_at: Instant::now(),
            cleaned_at: Instant::now(),
            cursor: String::new(),
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
        if !*self.has_snapshot.borrow() || known.heard_at.elapsed() > known.max_age {
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

    pub(crate) fn cursor(&self) -> String {
        self.known().cursor.clone()
    }

    pub(crate) fn forget_cursor(&self) {
        self.known_mut().cursor.clear();
    }

    /// `None` if the message is malformed.
    pub(crate) fn hear(&self, update: Update) -> Option<()> {
        let mut known = self.known_mut();
        match update {
            Update::Keys(keys) => known.set_keys(keys),
            // A snapshot adds to what is known: revocations end only by themselves.
            Update::SnapshotBegin(_) => {}
            Update::Revoked(revocation) => known.revoke(revocation)?,
            Update::SnapshotEnd(SnapshotEnd { cursor }) => {
                known.cursor = cursor;
                self.has_snapshot.send_replace(true);
            }
            Update::Heartbeat(Heartbeat { cursor }) => {
                known.cursor = cursor;
                known.clean_up();
            }
        }
        known.heard_at = Instant::now();
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
    fn set_keys(&mut self, keys: KeySet) {
        let duration = |field: Option<prost_types::Duration>| {
            let duration = field.and_then(|field| field.try_into().ok());
            duration.unwrap_or_default()
        };
        self.max_age = duration(keys.max_age);
        let verification_keys = keys.verification_keys.into_iter();
        self.edge.set_keys(realchat_verifier::KeySet {
            keys: verification_keys
                .map(|key| Key::new(key.key_id, &key.secret))
                .collect(),
            issuer: keys.issuer,
            audience: keys.audience,
            longest_life: duration(keys.access_token_ttl),
        });
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

    fn clean_up(&mut self) {
        if self.cleaned_at.elapsed() >= BETWEEN_CLEANUPS {
            self.edge.forget_expired(SystemTime::now());
            self.cleaned_at = Instant::now();
        }
    }
}

fn time(field: Option<Timestamp>) -> Option<SystemTime> {
    field?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SnapshotBegin;

    const MAX_AGE: Duration = Duration::from_mins(5);

    impl Verifier {
        fn is_unavailable(&self) -> bool {
            matches!(self.verify("no token"), Err(Error::Unavailable))
        }

        fn hear_cursor(&self, cursor: &str) {
            let cursor = cursor.to_owned();
            let heard = self.hear(Update::Heartbeat(Heartbeat { cursor }));
            heard.expect("a well-formed message");
        }
    }

    /// Has heard a snapshot.
    fn ready() -> Verifier {
        let verifier = Verifier::default();
        let keys = KeySet {
            max_age: MAX_AGE.try_into().ok(),
            ..KeySet::default()
        };
        let end = SnapshotEnd {
            cursor: "r1-1".to_owned(),
        };
        for update in [
            Update::Keys(keys),
            Update::SnapshotBegin(SnapshotBegin {}),
            Update::SnapshotEnd(end),
        ] {
            assert!(verifier.is_unavailable());
            verifier.hear(update).expect("a well-formed message");
        }
        verifier
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_verified_after_the_first_snapshot_until_max_age_after_a_message() {
        let verifier = ready();
        verifier.ready().await;
        assert_eq!(verifier.cursor(), "r1-1");
        for _ in 0..2 {
            tokio::time::advance(MAX_AGE).await;
            assert!(!verifier.is_unavailable());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(verifier.is_unavailable());
            verifier.hear_cursor("r1-2");
            assert!(!verifier.is_unavailable());
        }
        assert_eq!(verifier.cursor(), "r1-2");
    }

    #[tokio::test]
    async fn a_revocation_that_cannot_be_read_is_no_revocation() {
        let (verifier, now) = (ready(), Some(Timestamp::from(SystemTime::now())));
        let revocation = |tokens, until| Update::Revoked(Revocation { tokens, until });
        let session = |id: &str| Some(Tokens::SessionId(id.to_owned()));
        let id = "01a20fda-7110-7d2d-905e-1beca7432624";
        assert!(verifier.hear(revocation(session(id), now)).is_some());
        assert!(verifier.hear(revocation(session("x"), now)).is_none());
        assert!(verifier.hear(revocation(session(id), None)).is_none());
        assert!(verifier.hear(revocation(None, now)).is_none());
        assert_eq!(verifier.known().edge.revocations(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn old_revocations_are_dropped() {
        let verifier = ready();
        let tokens = Tokens::SessionId("01a20fda-7110-7d2d-905e-1beca7432624".to_owned());
        let revocation = Revocation {
            tokens: Some(tokens),
            until: Some(Timestamp::default()),
        };
        verifier
            .hear(Update::Revoked(revocation))
            .expect("well-formed");
        tokio::time::advance(BETWEEN_CLEANUPS).await;
        verifier.hear_cursor("r1-2");
        assert_eq!(verifier.known().edge.revocations(), 0);
    }
}
