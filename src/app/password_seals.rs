//! Seals the stored password hashes with the current `DATA_KEY`: those of a previous key, and
//! those that an older version wrote without a seal.
//!
//! Each replica reads all users: within two minutes of its start, then every hour, and once a
//! day after a pass that found nothing to do. A hash is replaced only if it is still the one that
//! was read, so replicas, logins and password changes do not disturb each other, and a pass that
//! is cut off costs nothing. The metrics show whether a previous key is still needed: a hash that
//! was stored with it after a pass began may be missing in the numbers of that pass.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    db::{Db, Resealed, StaleHashes},
    model::{Clock, DataKeys, Form, SealedWith, StoredHash, Transition, UserId},
    telemetry::{Causes, metrics::Labels},
};

const INTERVAL: Duration = Duration::from_hours(1);
/// After a pass that found every hash sealed with the current key. Only a replica with another
/// configuration stores others. Those that it stores after the pass stay for a day: the rotation in
/// the runbook needs a pass that began after its end, and says how to begin one.
const LONG_INTERVAL: Duration = Duration::from_hours(24);
/// The first pass begins within two minutes, at a random time: replicas that start together do
/// not read the same rows.
const FIRST: Duration = Duration::from_mins(2);
/// The pause between two steps, so that calls do not wait.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a step is read again after others changed its rows meanwhile.
const ATTEMPTS: u32 = 3;

/// The keys, and the clock that ends a transition.
pub struct Sealing {
    pub keys: Arc<DataKeys>,
    pub transition: Transition,
    pub clock: Arc<dyn Clock>,
}

/// The result of the last complete pass, and the time at which it began.
#[derive(Clone, Debug)]
pub struct Metrics {
    hashes: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    began: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            hashes: Family::default(),
            began: Gauge::default(),
        };
        registry.register(
            "auth_password_seals",
            "Stored password hashes by the key of their seal; NaN before the first count",
            metrics.hashes.clone(),
        );
        registry.register(
            "auth_password_seals_pass_start_timestamp_seconds",
            "When the last complete count of auth_password_seals began; NaN before the first",
            metrics.began.clone(),
        );
        // Zero would say that no previous key is needed.
        metrics.set(|_| f64::NAN, f64::NAN);
        metrics
    }

    fn set(&self, hashes: impl Fn(SealedWith) -> f64, began: f64) {
        for key in SealedWith::ALL {
            let labels = [("key", key.as_str())];
            self.hashes.get_or_create(&labels).set(hashes(key));
        }
        self.began.set(began);
    }
}

pub(super) async fn run(
    db: Db,
    sealing: Sealing,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let passes = async {
        let random = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        sleep(FIRST.mul_f64(random)).await;
        loop {
            let next = tick(&db, &sealing, &metrics).await;
            let next = next.unwrap_or_else(|error| {
                let error = Causes(error.as_ref());
                warn!(%error, "cannot seal password hashes; trying again later");
                INTERVAL
            });
            sleep(next).await;
        }
    };
    stop.run_until_cancelled(passes).await;
    Ok(())
}

/// One pass through all users. Returns the time until the next one.
pub async fn tick(db: &Db, sealing: &Sealing, metrics: &Metrics) -> anyhow::Result<Duration> {
    let began = sealing.clock.now().as_secs();
    let mut pass = Pass::default();
    let mut after = None;
    loop {
        after = pass.step(db, sealing, after).await?;
        if after.is_none() {
            break;
        }
        sleep(PAUSE).await;
    }
    let Pass {
        counts,
        found_stale,
    } = pass;
    #[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
    metrics.set(|key| f64::from(counts[key as usize]), began as f64);
    debug!(?counts, "sealed password hashes");
    Ok(if found_stale { INTERVAL } else { LONG_INTERVAL })
}

/// The result of a pass so far.
#[derive(Default)]
struct Pass {
    /// The hashes that the pass left, by [`SealedWith`].
    counts: [u32; SealedWith::ALL.len()],
    /// Whether there was a hash that had to be sealed, or that could not be.
    found_stale: bool,
}

impl Pass {
    /// Seals what the users after this one have, and returns the last of them.
    async fn step(
        &mut self,
        db: &Db,
        sealing: &Sealing,
        after: Option<UserId>,
    ) -> anyhow::Result<Option<UserId>> {
        let prefix = sealing.keys.current().seal_prefix();
        let mut step = db.stale_hashes(after, &prefix).await?;
        self.found_stale |= !step.stale.is_empty();
        for _ in 0..ATTEMPTS {
            let resealed = sealing.reseal(&step.stale)?;
            if resealed.is_empty() {
                break;
            }
            db.reseal(&resealed).await?;
            step = db.stale_hashes(after, &prefix).await?;
        }
        self.count(sealing, &step);
        Ok(step.next)
    }

    fn count(&mut self, sealing: &Sealing, step: &StaleHashes) {
        let mut add = |key: SealedWith, n: usize| {
            let count = &mut self.counts[key as usize];
            *count = count.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        };
        add(SealedWith::Current, step.fresh);
        for (user_id, stored) in &step.stale {
            add(sealing.sealed_with(*user_id, stored), 1);
        }
    }
}

impl Sealing {
    /// The hashes that can be opened, with a new seal. None during a transition.
    fn reseal(&self, stale: &[(UserId, String)]) -> Result<Vec<Resealed>, getrandom::Error> {
        let form = self.transition.form(&self.keys, self.clock.now());
        if matches!(form, Form::Old) {
            return Ok(Vec::new());
        }
        let opened = stale.iter().filter_map(|(user_id, stored)| {
            let hash = self.keys.open_hash(stored, *user_id)?;
            Some((*user_id, stored, hash))
        });
        let resealed = opened.map(|(user_id, stored, hash)| {
            Ok(Resealed {
                user_id,
                old: stored.clone(),
                new: StoredHash::new(&hash, user_id, form)?,
            })
        });
        resealed.collect()
    }

    /// A damaged seal counts as one of an unknown key.
    fn sealed_with(&self, user_id: UserId, stored: &str) -> SealedWith {
        match self.keys.open_hash(stored, user_id) {
            Some(_) => self.keys.sealed_with(stored),
            None => SealedWith::Unknown,
        }
    }
}
