//! Deletes sessions a while after they ended, and counts of the throttle that have faded.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    db::{self, Db},
    model::{Clock, ThrottleLimits, Timestamp},
    telemetry::Causes,
};

const INTERVAL: Duration = Duration::from_hours(1);
/// Between two batches, so that the sweep never crowds out the calls.
const PAUSE: Duration = Duration::from_millis(50);
/// An ended session is kept this long, for whoever looks into an incident.
const RETENTION: Duration = Duration::from_hours(24);

/// Sweeps once an hour until `stop`. Every replica does; they do not get in each other's way.
pub(super) async fn run(
    db: Db,
    limits: ThrottleLimits,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let rounds = async {
        // Not at once, and not all replicas together; yet also if none lives for an hour.
        sleep(INTERVAL.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)))
            .await;
        loop {
            let now = clock.now();
            let (sessions, counts) = tokio::join!(sweep(&db, now), forget(&db, &limits, now));
            report("ended sessions", sessions);
            report("faded counts", counts);
            sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
    Ok(())
}

fn report(what: &str, deleted: Result<usize, db::Error>) {
    match deleted {
        Ok(count) => debug!(count, "deleted {what}"),
        Err(error) => {
            warn!(error = %Causes(&error), "cannot delete {what}; trying again later");
        }
    }
}

/// Walks all sessions once and deletes those that ended a while ago. Returns how many.
pub async fn sweep(db: &Db, now: Timestamp) -> Result<usize, db::Error> {
    let mut deleted = 0;
    let mut position = None;
    loop {
        let step = db.sweep_sessions(position, now - RETENTION).await?;
        deleted += step.deleted;
        match step.next {
            Some(next) => position = Some(next),
            None => return Ok(deleted),
        }
        sleep(PAUSE).await;
    }
}

/// Walks all counts of the throttle once and deletes those that have faded. Returns how many.
pub async fn forget(db: &Db, limits: &ThrottleLimits, now: Timestamp) -> Result<usize, db::Error> {
    let faded_before = now - limits.longest_fade();
    let mut deleted = 0;
    let mut position = None;
    loop {
        let step = db.sweep_throttle(position, faded_before).await?;
        deleted += step.deleted;
        match step.next {
            Some(next) => position = Some(next),
            None => return Ok(deleted),
        }
        sleep(PAUSE).await;
    }
}
