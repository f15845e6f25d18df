//! Deletes sessions a while after they ended, and throttle counters that have faded.

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
/// Between two batches, so that calls never wait for housekeeping.
const PAUSE: Duration = Duration::from_millis(50);
/// An ended session is kept this long, for the investigation of an incident.
const RETENTION: Duration = Duration::from_hours(24);

/// Works once an hour until `stop`, on every replica: they do not disturb each other.
pub(super) async fn run(
    db: Db,
    limits: ThrottleLimits,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let rounds = async {
        // The first wait is random: replicas that start together do not work at the same time,
        // and the work is also done where no replica lives for an hour.
        let random = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        sleep(INTERVAL.mul_f64(random)).await;
        loop {
            tick(&db, &limits, clock.now()).await;
            sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
    Ok(())
}

async fn tick(db: &Db, limits: &ThrottleLimits, now: Timestamp) {
    let (sessions, counters) = tokio::join!(
        delete_ended_sessions(db, now),
        delete_faded_counters(db, limits, now)
    );
    log("ended sessions", sessions);
    log("faded counters", counters);
}

fn log(rows: &str, deleted: Result<usize, db::Error>) {
    match deleted {
        Ok(count) => debug!(count, "deleted {rows}"),
        Err(error) => {
            warn!(error = %Causes(&error), "cannot delete {rows}; trying again later");
        }
    }
}

/// Reads all sessions once and deletes those that ended a while ago. Returns their number.
pub async fn delete_ended_sessions(db: &Db, now: Timestamp) -> Result<usize, db::Error> {
    let mut deleted = 0;
    let mut after = None;
    loop {
        let step = db.delete_ended_sessions(after, now - RETENTION).await?;
        deleted += step.deleted;
        if step.next.is_none() {
            return Ok(deleted);
        }
        after = step.next;
        sleep(PAUSE).await;
    }
}

/// Reads all counters once and deletes those that have faded. Returns their number.
pub async fn delete_faded_counters(
    db: &Db,
    limits: &ThrottleLimits,
    now: Timestamp,
) -> Result<usize, db::Error> {
    let faded_before = now - limits.longest_fade();
    let mut deleted = 0;
    let mut after = None;
    loop {
        let step = db.delete_faded_counters(after, faded_before).await?;
        deleted += step.deleted;
        if step.next.is_none() {
            return Ok(deleted);
        }
        after = step.next;
        sleep(PAUSE).await;
    }
}
