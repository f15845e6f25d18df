//! The hasher's public face: hash, verify, and whether a hash is out of date.

use std::{fmt, io};

use bcrypt_lanes::{Digest, Key, Work};
use prometheus_client::registry::Registry;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};

use super::{
    HashError, NewPassword, Password, PasswordHash, Settings, engine::Engine, hash::COSTS,
    metrics::Metrics, queue::Purpose, self_test::self_test,
};
use crate::telemetry::SPANS;

/// Computes bcrypt on threads of its own, which end when it is dropped.
///
/// Every call names its caller's `deadline`: if the expected wait for a lane goes beyond
/// the configured bound, or if after a wait the hash would not be done in time, the answer
/// is [`HashError::Overloaded`] at once. A call that was admitted does not watch the
/// deadline itself: dropping the future gives its place, or its lane, to the next.
pub struct Hasher {
    engine: Engine,
    cost: u32,
    /// What an unknown user's password is compared with. Nobody knows a password for it.
    decoy: PasswordHash,
}

impl Hasher {
    /// Proves the kernel on known answers, then starts the threads. Takes milliseconds at
    /// any cost.
    pub fn start(settings: &Settings, registry: &mut Registry) -> Result<Self, StartError> {
        let cost = settings.cost;
        if !COSTS.contains(&cost) {
            return Err(StartError::Cost(cost));
        }
        let round_times = self_test().ok_or(StartError::WrongAnswer)?;
        let metrics = Metrics::register(registry);
        let engine = Engine::start(settings.threads, settings.max_wait, round_times, metrics)?;
        let decoy = PasswordHash::new(cost, random(), random());
        Ok(Self {
            engine,
            cost,
            decoy,
        })
    }

    /// Hashes a password to be set, with a new salt, at the configured cost.
    pub async fn hash(
        &self,
        password: &NewPassword,
        deadline: Instant,
    ) -> Result<PasswordHash, HashError> {
        self.hash_key(password.key(), Purpose::Answer, deadline)
            .await
    }

    /// Hashes a password again that was just verified, for [`Hasher::needs_upgrade`]. That
    /// can wait for another day: it is refused unless half of the lanes are free.
    pub async fn rehash(
        &self,
        password: Verified<'_>,
        deadline: Instant,
    ) -> Result<PasswordHash, HashError> {
        self.hash_key(password.key(), Purpose::Upgrade, deadline)
            .await
    }

    /// Whether the password is the one that was hashed: `None` if not, and `None` without a
    /// hash, which stands for an unknown user.
    ///
    /// Costs the same whatever the answer: an unknown user's password is compared with a
    /// decoy of the configured cost, and one that no hash can match (empty, too long, with
    /// a NUL) is replaced by a stand-in.
    pub async fn verify<'p>(
        &self,
        password: &'p Password,
        hash: Option<&PasswordHash>,
        deadline: Instant,
    ) -> Result<Option<Verified<'p>>, HashError> {
        let key = password.key();
        let possible = hash.is_some() && key.is_some();
        let hash = hash.unwrap_or(&self.decoy);
        let key = key.unwrap_or_else(|| Key::new(b""));
        let work = Work {
            key,
            cost: hash.cost(),
            salt: hash.salt(),
        };
        let digest = self.digest(work, Purpose::Answer, deadline).await?;
        let same = bool::from(digest.ct_eq(hash.digest()));
        Ok((same && possible).then_some(Verified(password)))
    }

    /// Whether the hash has another cost than the configured one.
    #[must_use]
    pub const fn needs_upgrade(&self, hash: &PasswordHash) -> bool {
        hash.cost() != self.cost
    }

    /// The refusal that a hash would get now: saves what has to be done before one.
    pub fn check_room(&self, deadline: Instant) -> Result<(), HashError> {
        let room = self.engine.check(1 << self.cost, deadline);
        if let Err(HashError::Overloaded { .. }) = room {
            self.metrics().wanted().refused();
        }
        room
    }

    const fn metrics(&self) -> &Metrics {
        self.engine.metrics()
    }

    /// Resolves when a hashing thread died. From then on every call is
    /// [`HashError::Stopped`]: end the process.
    pub async fn failed(&self) {
        self.engine.failed().await;
    }

    async fn hash_key(
        &self,
        key: Key,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<PasswordHash, HashError> {
        let (cost, salt) = (self.cost, random());
        let work = Work { key, cost, salt };
        let digest = self.digest(work, purpose, deadline).await?;
        Ok(PasswordHash::new(cost, salt, digest))
    }

    async fn digest(
        &self,
        work: Work,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Digest, HashError> {
        let mut wanted = self.metrics().wanted();
        let hashing = async { self.engine.admit(work, purpose, deadline)?.digest().await };
        let span = info_span!(target: SPANS, "hash a password");
        let digest = hashing.instrument(span).await;
        match digest {
            Ok(_) => wanted.done(),
            Err(HashError::Overloaded { .. }) => wanted.refused(),
            Err(HashError::Stopped) => {}
        }
        digest
    }
}

/// A password that [`Hasher::verify`] found to be right.
pub struct Verified<'p>(&'p Password);

impl Verified<'_> {
    fn key(&self) -> Key {
        self.0.key().expect("what cannot match is never verified")
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified(..)")
    }
}

/// Why a [`Hasher`] did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// bcrypt knows no such cost.
    #[error("bcrypt has no cost {0}")]
    Cost(u32),
    /// The kernel does not compute bcrypt on this machine.
    #[error("bcrypt computed a wrong answer to a published test vector")]
    WrongAnswer,
    /// No thread.
    #[error("cannot start a password thread")]
    Thread(#[from] io::Error),
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

#[cfg(test)]
mod tests;
