//! Seals the stored password hashes with the current `DATA_KEY`: those of a previous key, and
//! those that an older version wrote without a seal.
//!
//! Each replica reads all users once an hour. A hash is replaced only if it is still the one
//! that was read, so replicas, logins and password changes do not disturb each other, and a pass
//! that is cut off costs nothing. The metric tells whether a previous key is still needed.

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

/// How many stored hashes have which key, after the last complete pass.
#[derive(Clone, Debug)]
pub struct Metrics(Family<Labels<1>, Gauge<f64, AtomicU64>>);

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self(Family::default());
        let help = "Stored password hashes by the key of their seal; NaN before the first count";
        registry.register("auth_password_seals", help, metrics.0.clone());
        // Zero would say that no previous key is needed.
        metrics.set(|_| f64::NAN);
        metrics
    }

    fn set(&self, number: impl Fn(SealedWith) -> f64) {
        for key in SealedWith::ALL {
            let labels = [("key", key.as_str())];
            self.0.get_or_create(&labels).set(number(key));
        }
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
            if let Err(error) = tick(&db, &sealing, &metrics).await {
                let error = Causes(error.as_ref());
                warn!(%error, "cannot seal password hashes; trying again later");
            }
            sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(passes).await;
    Ok(())
}

/// One pass through all users.
pub async fn tick(db: &Db, sealing: &Sealing, metrics: &Metrics) -> anyhow::Result<()> {
    let mut counts = [0_u32; SealedWith::ALL.len()];
    let mut after = None;
    loop {
        let step = seal_step(db, sealing, after).await?;
        let mut count = |key: SealedWith, n: usize| {
            counts[key as usize] =
                counts[key as usize].saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        };
        count(SealedWith::Current, step.fresh);
        for (user_id, stored) in &step.stale {
            count(sealing.sealed_with(*user_id, stored), 1);
        }
        after = step.next;
        if after.is_none() {
            break;
        }
        sleep(PAUSE).await;
    }
    metrics.set(|key| f64::from(counts[key as usize]));
    debug!(?counts, "sealed password hashes");
    Ok(())
}

/// Seals what the next users have, and returns what is left.
async fn seal_step(
    db: &Db,
    sealing: &Sealing,
    after: Option<UserId>,
) -> anyhow::Result<StaleHashes> {
    let prefix = sealing.keys.current().seal_prefix();
    let mut step = db.stale_hashes(after, &prefix).await?;
    for _ in 0..ATTEMPTS {
        let resealed = sealing.reseal(&step.stale)?;
        if resealed.is_empty() {
            break;
        }
        db.reseal(&resealed).await?;
        step = db.stale_hashes(after, &prefix).await?;
    }
    Ok(step)
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
