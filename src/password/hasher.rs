use std::io;

use bcrypt_lanes::{Digest, Key, Work};
use prometheus_client::registry::Registry;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};

use super::{
    Began, HashError, NewPassword, Password, PasswordHash, Priority, Settings, Verified,
    cache::lanes, engine::Engine, hash::COSTS, metrics::Metrics, queue::Purpose,
    self_test::self_test,
};
use crate::telemetry::SPANS;

/// Computes bcrypt on threads of its own, which end when it is dropped.
///
/// Every call has a deadline. A call is refused at once, as [`HashError::Overloaded`], in two
/// cases: the expected wait for a lane exceeds the configured maximum, or the hash has to wait
/// and would not be done before the deadline. An admitted call does not watch its deadline:
/// dropping the future frees its place in the queue or its lane.
pub struct Hasher {
    engine: Engine,
    cost: u32,
    /// Compared with the password of an unknown user. Its digest is random: no password matches.
    dummy: PasswordHash,
}

/// How a hash is requested, and whether it began.
#[derive(Clone)]
pub struct Request {
    pub priority: Priority,
    pub deadline: Instant,
    pub began: Began,
}

impl Hasher {
    /// Tests the kernel with known answers, then starts the threads. Takes milliseconds,
    /// independent of the cost.
    pub fn start(settings: &Settings, registry: &mut Registry) -> Result<Self, StartError> {
        let cost = settings.cost;
        if !COSTS.contains(&cost) {
            return Err(StartError::Cost(cost));
        }
        let round_times = self_test(lanes()).ok_or(StartError::WrongAnswer)?;
        let metrics = Metrics::register(registry);
        let engine = Engine::start(settings.threads, settings.max_wait, round_times, metrics)?;
        let dummy = PasswordHash::new(cost, random(), random());
        Ok(Self {
            engine,
            cost,
            dummy,
        })
    }

    /// Hashes a new password with a new salt at the configured cost.
    pub async fn hash(
        &self,
        password: &NewPassword,
        request: Request,
    ) -> Result<PasswordHash, HashError> {
        let (purpose, deadline) = (Purpose::Answer(request.priority), request.deadline);
        self.hash_key(password.key(), purpose, deadline, request.began)
            .await
    }

    /// Hashes a verified password again, because of [`Verified::needs_upgrade`]. It is refused
    /// unless half of the lanes are free, because it can be done at a later login.
    pub async fn rehash(
        &self,
        password: Verified<'_>,
        deadline: Instant,
    ) -> Result<PasswordHash, HashError> {
        let (purpose, began) = (Purpose::Upgrade, Began::default());
        self.hash_key(password.key(), purpose, deadline, began)
            .await
    }

    /// Whether the password is the one that was hashed: `None` if it is not. Without a `hash`,
    /// which stands for an unknown user, the answer is `None` too.
    ///
    /// If the password's NFD form differs, and the password did not match, that form is compared
    /// too: a system without normalisation may have hashed it.
    ///
    /// A call that has begun is not refused any more, because it counts as an attempt.
    ///
    /// All wrong answers to a password cost the same, except that a hash of a higher cost than the
    /// configured one takes longer, which cannot be hidden. The password of an unknown user is
    /// compared with a dummy hash of the configured cost, and a comparison with a hash of a lower
    /// cost is padded to that cost. For a password that no hash can match (empty, too long, or with
    /// a NUL) an empty key is hashed. Whether there is a second comparison depends on the password
    /// alone.
    pub async fn verify<'p>(
        &self,
        password: &'p Password,
        hash: Option<&PasswordHash>,
        request: Request,
    ) -> Result<Option<Verified<'p>>, HashError> {
        let decomposed = password.decomposed_key();
        if decomposed.is_some() {
            // Two comparisons are begun only if there seems to be time for both.
            let rounds = self.most_rounds(password, hash);
            (self.engine).check(rounds, request.priority, request.deadline)?;
        }
        let deadline = Some(request.deadline);
        if self
            .matches(password.key(), hash, &request, deadline)
            .await?
        {
            let needs_upgrade = hash.is_some_and(|hash| hash.cost() != self.cost);
            return Ok(Some(Verified {
                password,
                needs_upgrade,
            }));
        }
        let Some(key) = decomposed else {
            return Ok(None);
        };
        let same = self.matches(Some(key), hash, &request, None).await?;
        Ok(same.then_some(Verified {
            password,
            needs_upgrade: true,
        }))
    }

    /// The rounds of all comparisons with a wrong password.
    fn most_rounds(&self, password: &Password, hash: Option<&PasswordHash>) -> u32 {
        let comparison = self.comparison(Key::new(b""), hash.unwrap_or(&self.dummy));
        let comparisons = if password.decomposed_key().is_some() {
            2
        } else {
            1
        };
        comparison.rounds().saturating_mul(comparisons)
    }

    /// Costs the same for all arguments, except for a hash of a higher cost. Without a deadline, it
    /// is never refused.
    async fn matches(
        &self,
        key: Option<Key>,
        hash: Option<&PasswordHash>,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<bool, HashError> {
        let possible = hash.is_some() && key.is_some();
        let hash = hash.unwrap_or(&self.dummy);
        let work = self.comparison(key.unwrap_or_else(|| Key::new(b"")), hash);
        let purpose = Purpose::Answer(request.priority);
        let digest = self.digest(work, purpose, deadline, request.began.clone());
        let same = bool::from(digest.await?.ct_eq(hash.digest()));
        Ok(same && possible)
    }

    /// The padding is part of the work: it waits for no lane of its own, so that it cannot be
    /// refused or late when the hash is not.
    const fn comparison(&self, key: Key, hash: &PasswordHash) -> Work {
        hash.work(key).padded(self.cost)
    }

    /// The refusal that a hash would get now. It saves the work that comes before a hash.
    pub fn check_capacity(&self, priority: Priority, deadline: Instant) -> Result<(), HashError> {
        self.engine.check(1 << self.cost, priority, deadline)
    }

    /// Whether a hash would be admitted now. No refusal is counted.
    pub fn would_admit(&self, priority: Priority, deadline: Instant) -> bool {
        self.engine.would_admit(1 << self.cost, priority, deadline)
    }

    /// Resolves when a hashing thread died. All calls are [`HashError::Stopped`] from then on,
    /// so the process has to end.
    pub async fn failed(&self) {
        self.engine.failed().await;
    }

    async fn hash_key(
        &self,
        key: Key,
        purpose: Purpose,
        deadline: Instant,
        began: Began,
    ) -> Result<PasswordHash, HashError> {
        let (cost, salt) = (self.cost, random());
        let work = Work::new(key, cost, salt);
        let digest = self.digest(work, purpose, Some(deadline), began).await?;
        Ok(PasswordHash::new(cost, salt, digest))
    }

    async fn digest(
        &self,
        work: Work,
        purpose: Purpose,
        deadline: Option<Instant>,
        began: Began,
    ) -> Result<Digest, HashError> {
        let hashing = async {
            let ticket = self.engine.admit(work, purpose, deadline, began)?;
            ticket.digest().await
        };
        let span = info_span!(target: SPANS, "hash a password");
        hashing.instrument(span).await
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("bcrypt has no cost {0}")]
    Cost(u32),
    #[error("bcrypt computed a wrong answer to a published test vector")]
    WrongAnswer,
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
