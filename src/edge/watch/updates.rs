//! Writes the messages of a stream into the [`Knowledge`].
//!
//! A message that cannot be understood ends the stream: if a revocation were skipped and the
//! cursor went on, its tokens would stay valid. Only kinds of messages that a newer service may
//! add are skipped. After a revocation of an unknown kind the stream goes on, but no longer counts
//! as complete: the edge becomes stale, and the operator has chosen what that means.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use realchat_verifier::{Key, KeySet};
use tokio::time::Instant;
use tracing::{error, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::fault::Fault;
use crate::{
    edge::Knowledge,
    model::Clock,
    proto::{self, EdgeUpdate, Revocation, edge_update::Update, revocation::Tokens},
    telemetry::LIMITED,
};

/// The only algorithm of access tokens. Keys of another one are for newer versions.
const ALGORITHM: &str = "HS256";
/// RFC 7518, section 3.2. Everyone could sign with an empty one.
const LEAST_SECRET_BYTES: usize = 32;

pub(super) struct Updates {
    knowledge: Arc<Knowledge>,
    clock: Arc<dyn Clock>,
    /// Where the next stream goes on; `None` before the first snapshot.
    pub(super) cursor: Option<String>,
    in_snapshot: bool,
    /// Whether this stream has said that all revocations are known.
    pub(super) is_complete: bool,
    /// Whether this stream has sent a revocation that this version does not understand.
    lacks_revocations: bool,
}

impl Updates {
    pub(super) fn new(knowledge: Arc<Knowledge>, clock: Arc<dyn Clock>) -> Self {
        Self {
            knowledge,
            clock,
            cursor: None,
            in_snapshot: false,
            is_complete: false,
            lacks_revocations: false,
        }
    }

    /// A new stream begins.
    pub(super) fn begin(&mut self) {
        self.in_snapshot = false;
        self.is_complete = false;
        self.lacks_revocations = false;
    }

    pub(super) fn apply(&mut self, update: EdgeUpdate) -> Result<(), Fault> {
        self.knowledge.hear(Instant::now(), self.clock.now());
        match update.update {
            Some(Update::Keys(keys)) => self.keys(keys)?,
            Some(Update::SnapshotBegin(_)) => self.in_snapshot = true,
            Some(Update::Revoked(revocation)) => self.revoked(revocation)?,
            Some(Update::SnapshotEnd(end)) if self.in_snapshot => {
                self.in_snapshot = false;
                self.complete(end.cursor)?;
            }
            Some(Update::Heartbeat(heartbeat)) if self.is_following() => {
                self.complete(heartbeat.cursor)?;
            }
            Some(Update::SnapshotEnd(_)) => return malformed("a snapshot ends that did not begin"),
            // It does not say that the snapshot was complete.
            Some(Update::Heartbeat(_)) => {}
            None => {
                warn!(name: LIMITED, "skipped a message of a kind that this version does not know");
            }
        }
        Ok(())
    }

    fn is_following(&self) -> bool {
        self.cursor.is_some() && !self.in_snapshot
    }

    fn complete(&mut self, cursor: String) -> Result<(), Fault> {
        if cursor.is_empty() {
            return malformed("a cursor is empty");
        }
        if self.lacks_revocations {
            return Ok(());
        }
        self.cursor = Some(cursor);
        self.is_complete = true;
        self.knowledge.complete(Instant::now());
        Ok(())
    }

    fn keys(&self, set: proto::KeySet) -> Result<(), Fault> {
        if set
            .verification_keys
            .iter()
            .any(|key| key.secret.len() < LEAST_SECRET_BYTES)
        {
            return malformed("a key is too short");
        }
        let keys = set.verification_keys.into_iter();
        let keys = keys.filter(|key| key.algorithm == ALGORITHM);
        let keys: Vec<_> = keys.map(key).collect();
        if keys.is_empty() {
            return malformed("there is no key");
        }
        let [longest_life, max_age] = [set.access_token_ttl, set.max_age]
            .map(|duration| duration.and_then(|it| Duration::try_from(it).ok()));
        let Some((longest_life, max_age)) = longest_life.zip(max_age) else {
            return malformed("a duration of the keys is missing");
        };
        let keys = KeySet {
            keys,
            issuer: set.issuer,
            audience: set.audience,
            longest_life,
        };
        self.knowledge.set_keys(keys, max_age);
        Ok(())
    }

    fn revoked(&mut self, revocation: Revocation) -> Result<(), Fault> {
        let until = time(revocation.until)?;
        match revocation.tokens {
            Some(Tokens::SessionId(session)) => {
                let session = id(&session)?;
                (self.knowledge).revoke(|edge| edge.revoke_session(session, until));
            }
            Some(Tokens::User(user)) => {
                let (id, before) = (id(&user.user_id)?, time(user.issued_before)?);
                (self.knowledge).revoke(|edge| edge.revoke_user(id, before, until));
            }
            None => {
                error!(name: LIMITED, "SKIPPED A REVOCATION of an unknown kind: update the edge");
                self.lacks_revocations = true;
            }
        }
        Ok(())
    }
}

fn key(key: proto::SigningKey) -> Key {
    let secret = Zeroizing::new(key.secret);
    Key::new(key.key_id, &secret)
}

fn id(text: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(text).or_else(|_| malformed("an id of a revocation is no UUID"))
}

fn time(time: Option<prost_types::Timestamp>) -> Result<SystemTime, Fault> {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map_or_else(|| malformed("a time of a revocation is missing"), Ok)
}

fn malformed<T>(what: &'static str) -> Result<T, Fault> {
    Err(Fault::Malformed(what))
}
