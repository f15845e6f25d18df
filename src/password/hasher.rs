//! The hasher's public face: hash, verify, and whether a hash is out of date.

use std::{fmt, io, num::NonZeroUsize, time::Duration};

use bcrypt_lanes::{Digest, Key, Lane, Work};
use prometheus_client::registry::Registry;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};

use super::{
    HashError, NewPassword, Password, PasswordHash, engine::Engine, hash::COSTS, metrics::Metrics,
    queue::Purpose, self_test::self_test,
};
use crate::telemetry::SPANS;

/// What a [`Hasher`] is started with.
#[derive(Clone, Copy, Debug)]
pub struct HasherSettings {
    /// Of new hashes: `2^cost` rounds, 4 to 31.
    pub cost: u32,
    /// One per core.
    pub threads: NonZeroUsize,
    /// Who would wait longer for a lane is refused.
    pub max_wait: Duration,
}

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
    pub fn start(settings: HasherSettings, registry: &mut Registry) -> Result<Self, StartError> {
        Self::with_kernel(settings, registry, Lane::begin)
    }

    fn with_kernel(
        HasherSettings {
            cost,
            threads,
            max_wait,
        }: HasherSettings,
        registry: &mut Registry,
        begin: impl Fn(&mut Lane, &Work) + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        if !COSTS.contains(&cost) {
            return Err(StartError::Cost(cost));
        }
        let pace = self_test(&begin).ok_or(StartError::WrongAnswer)?;
        let engine = Engine::start(threads, max_wait, pace, Metrics::register(registry), begin)?;
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
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::password::Policy;

    const COST: u32 = 5;
    const SETTINGS: HasherSettings = HasherSettings {
        cost: COST,
        threads: NonZeroUsize::MIN,
        max_wait: Duration::from_hours(1),
    };

    /// A hasher, and the costs of the hashes it computed since it started.
    fn counting() -> (Hasher, Arc<Mutex<Vec<u32>>>) {
        let costs = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&costs);
        let begin = move |lane: &mut Lane, work: &Work| {
            log.lock().unwrap().push(work.cost);
            lane.begin(work);
        };
        let hasher = Hasher::with_kernel(SETTINGS, &mut Registry::default(), begin).unwrap();
        costs.lock().unwrap().clear();
        (hasher, costs)
    }

    fn hasher() -> Hasher {
        Hasher::start(SETTINGS, &mut Registry::default()).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    fn new_password(text: &str) -> NewPassword {
        Policy::verdict(0, Password::of(text), "").unwrap()
    }

    async fn verifies(hasher: &Hasher, text: &str, hash: Option<&PasswordHash>) -> bool {
        hasher
            .verify(&Password::of(text), hash, soon())
            .await
            .unwrap()
            .is_some()
    }

    #[tokio::test]
    async fn published_vectors_verify() {
        // jBCrypt's own test vectors.
        let table = [
            (
                "a",
                "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
            ),
            (
                "abc",
                "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
            ),
            (
                "abcdefghijklmnopqrstuvwxyz",
                "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC",
            ),
            (
                "~!@#$%^&*()      ~!@#$%^&*()PNBFRD",
                "$2a$06$fPIsBO8qRqkjj273rfaOI.HtSV9jLDpTbZn782DC6/t7qT67P6FfO",
            ),
        ];
        let hasher = hasher();
        for (text, hash) in table {
            let hash = PasswordHash::parse(hash).unwrap();
            assert!(verifies(&hasher, text, Some(&hash)).await, "{text}");
            assert!(
                !verifies(&hasher, &format!("{text}."), Some(&hash)).await,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_in_either_normal_form() {
        let hasher = hasher();
        let hash = hasher
            .hash(&new_password("p\u{e4}ssw\u{f6}rd"), soon())
            .await
            .unwrap();
        assert!(verifies(&hasher, "pa\u{308}sswo\u{308}rd", Some(&hash)).await);
        assert!(!verifies(&hasher, "passw\u{f6}rd", Some(&hash)).await);
    }

    #[tokio::test]
    async fn one_password_hashes_to_a_new_salt_each_time() {
        let hasher = hasher();
        let one = hasher
            .hash(&new_password("hunter2hunter2"), soon())
            .await
            .unwrap();
        let other = hasher
            .hash(&new_password("hunter2hunter2"), soon())
            .await
            .unwrap();
        assert_ne!(one.salt(), other.salt());
        assert!(one.as_str().starts_with("$2b$05$"));
    }

    #[tokio::test]
    async fn an_unknown_user_pays_one_hash_of_the_configured_cost() {
        let (hasher, costs) = counting();
        assert!(!verifies(&hasher, "hunter2", None).await);
        assert_eq!(*costs.lock().unwrap(), [COST]);
    }

    #[tokio::test]
    async fn what_cannot_match_pays_one_hash_and_is_wrong() {
        let (hasher, costs) = counting();
        let hash = hasher
            .hash(&new_password(&"x".repeat(72)), soon())
            .await
            .unwrap();
        // The hash of the empty password, which no policy would have let pass.
        let nothing = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
        let nothing = PasswordHash::parse(nothing).unwrap();
        costs.lock().unwrap().clear();
        for text in ["x".repeat(73).as_str(), "nul\0", ""] {
            assert!(!verifies(&hasher, text, Some(&hash)).await);
            assert!(!verifies(&hasher, text, Some(&nothing)).await);
            assert!(!verifies(&hasher, text, None).await);
        }
        assert_eq!(*costs.lock().unwrap(), [COST, 6, COST].repeat(3));
    }

    #[tokio::test]
    async fn a_verified_password_is_hashed_again_at_the_new_cost() {
        let (hasher, password) = (hasher(), Password::of("a"));
        let old = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
        let old = PasswordHash::parse(old).unwrap();
        assert!(hasher.needs_upgrade(&old));
        let verified = hasher
            .verify(&password, Some(&old), soon())
            .await
            .unwrap()
            .unwrap();
        let new = hasher.rehash(verified, soon()).await.unwrap();
        assert!(!hasher.needs_upgrade(&new));
        assert!(verifies(&hasher, "a", Some(&new)).await);
    }

    #[test]
    fn a_wrong_kernel_or_an_unknown_cost_does_not_start() {
        let does_nothing = |_: &mut Lane, _: &Work| ();
        let wrong = Hasher::with_kernel(SETTINGS, &mut Registry::default(), does_nothing)
            .err()
            .unwrap();
        insta::assert_snapshot!(wrong, @"bcrypt computed a wrong answer to a published test vector");
        for cost in [3, 32] {
            let unknown = Hasher::start(
                HasherSettings { cost, ..SETTINGS },
                &mut Registry::default(),
            );
            assert!(matches!(unknown.err(), Some(StartError::Cost(c)) if c == cost));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_bcrypt_crate_agrees(text in "[^\0]{8,18}", other in "[^\0]{8,18}") {
            Runtime::new().unwrap().block_on(async {
                let hasher = hasher();
                let (password, new) = (Password::of(&text), new_password(&text));
                let hash = hasher.hash(&new, soon()).await.unwrap();
                prop_assert!(bcrypt::verify(password.0.as_bytes(), hash.as_str()).unwrap());

                let theirs = bcrypt::hash(password.0.as_bytes(), COST).unwrap();
                let theirs = PasswordHash::parse(&theirs).unwrap();
                prop_assert!(verifies(&hasher, &text, Some(&theirs)).await);
                prop_assert_eq!(verifies(&hasher, &other, Some(&theirs)).await, text == other);
                Ok(())
            })?;
        }
    }
}
