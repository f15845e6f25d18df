//! Deletes sessions some time after they ended, and throttle counters that are back at zero.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    db::{self, Db, Step},
    model::{Clock, ThrottleLimits, Timestamp},
    telemetry::Causes,
};

const INTERVAL: Duration = Duration::from_hours(1);
/// The pause between two batches, so that calls do not wait for housekeeping.
const PAUSE: Duration = Duration::from_millis(50);
/// An ended session is kept this long, for the investigation of an incident.
const RETENTION: Duration = Duration::from_hours(24);

/// Works once an hour until `stop`, on every replica. Their deletions do not conflict.
pub(super) async fn run(
    db: Db,
    limits: ThrottleLimits,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let rounds = async {
        // The first wait is random: replicas that start together do not work at the same time,
        // and the work is also done if no replica lives for an hour.
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

/// One round at `now`, or at the database's time if that is earlier: a replica whose clock is
/// ahead must not delete sessions that live and counters that count.
pub async fn tick(db: &Db, limits: &ThrottleLimits, now: Timestamp) {
    let now = match db.now().await {
        Ok(database_now) => now.min(database_now),
        Err(error) => return log("rows", Err(error)),
    };
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
    delete_all(|after| db.delete_ended_sessions(after, now - RETENTION)).await
}

/// Reads all counters once and deletes those that have faded. Returns their number.
pub async fn delete_faded_counters(
    db: &Db,
    limits: &ThrottleLimits,
    now: Timestamp,
) -> Result<usize, db::Error> {
    let faded_before = now - limits.longest_fade();
    delete_all(|after| db.delete_faded_counters(after, faded_before)).await
}

/// Takes all steps from the beginning of a table to its end.
async fn delete_all<P, F>(step: impl Fn(Option<P>) -> F) -> Result<usize, db::Error>
where
    F: Future<Output = Result<Step<P>, db::Error>>,
{
    let (mut deleted, mut after) = (0, None);
    loop {
        let done = step(after).await?;
        deleted += done.deleted;
        after = done.next;
        if after.is_none() {
            return Ok(deleted);
        }
        sleep(PAUSE).await;
    }
}
