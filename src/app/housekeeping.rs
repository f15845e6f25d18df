//! Deletes sessions some time after they ended, expired requests of mails and revocations, and
//! throttle counters of which nothing is left.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    db::{self, Db, Step},
    model::{Clock, Revocation, ThrottleLimits, Timestamp},
    telemetry::Causes,
};

const SESSIONS_INTERVAL: Duration = Duration::from_hours(1);
/// For counters, mail requests and revocations: short, so that a spray of invented addresses cannot
/// fill the disk.
const COUNTERS_INTERVAL: Duration = Duration::from_mins(1);
/// The pause between two batches, so that calls do not wait for housekeeping.
const PAUSE: Duration = Duration::from_millis(50);
/// An ended session is kept this long, for the investigation of an incident.
const RETENTION: Duration = Duration::from_hours(24);

/// Works until `stop`, on every replica. Their deletions do not conflict.
pub(super) async fn run(
    db: Db,
    limits: ThrottleLimits,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let sessions = async {
        sleep(first_wait(SESSIONS_INTERVAL)).await;
        loop {
            tick_sessions(&db, clock.now()).await;
            sleep(SESSIONS_INTERVAL).await;
        }
    };
    let counters = async {
        sleep(first_wait(COUNTERS_INTERVAL)).await;
        loop {
            tick_counters(&db, &limits, clock.now()).await;
            sleep(COUNTERS_INTERVAL).await;
        }
    };
    let mails = async {
        sleep(first_wait(COUNTERS_INTERVAL)).await;
        loop {
            tick_mails(&db, clock.now()).await;
            sleep(COUNTERS_INTERVAL).await;
        }
    };
    let revocations = async {
        sleep(first_wait(COUNTERS_INTERVAL)).await;
        loop {
            tick_revocations(&db, clock.now()).await;
            sleep(COUNTERS_INTERVAL).await;
        }
    };
    let all = async { tokio::join!(sessions, counters, mails, revocations) };
    Box::pin(stop.run_until_cancelled(all)).await;
    Ok(())
}

/// Random: replicas that start together do not work at the same time, and the work is also done
/// if no replica lives for an hour.
fn first_wait(interval: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    interval.mul_f64(random)
}

/// One round at `now`, or at the database's time if that is earlier: a replica whose clock is
/// ahead must not delete sessions that live.
pub async fn tick_sessions(db: &Db, now: Timestamp) {
    match earlier(db, now).await {
        Ok(now) => log("ended sessions", delete_ended_sessions(db, now).await),
        Err(error) => log("ended sessions", Err(error)),
    }
}

/// Like [`tick_sessions`] for counters.
pub async fn tick_counters(db: &Db, limits: &ThrottleLimits, now: Timestamp) {
    match earlier(db, now).await {
        Ok(now) => log(
            "forgotten counters",
            delete_forgotten_counters(db, limits, now).await,
        ),
        Err(error) => log("forgotten counters", Err(error)),
    }
}

/// Like [`tick_sessions`] for requests of mails.
pub async fn tick_mails(db: &Db, now: Timestamp) {
    match earlier(db, now).await {
        Ok(now) => log("expired mail requests", delete_expired_mails(db, now).await),
        Err(error) => log("expired mail requests", Err(error)),
    }
}

/// Like [`tick_sessions`] for revocations.
pub async fn tick_revocations(db: &Db, now: Timestamp) {
    let deleted = async {
        let expired = earlier(db, now).await? - Revocation::CLOCK_SKEW;
        let mut deleted = 0;
        loop {
            match db.delete_revocations(expired).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
            sleep(PAUSE).await;
        }
    };
    log("expired revocations", deleted.await);
}

async fn earlier(db: &Db, now: Timestamp) -> Result<Timestamp, db::Error> {
    Ok(now.min(db.now().await?))
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

/// Reads all counters once and deletes those of which nothing is left. Returns their number.
pub async fn delete_forgotten_counters(
    db: &Db,
    limits: &ThrottleLimits,
    now: Timestamp,
) -> Result<usize, db::Error> {
    let forgotten = limits.forgotten(now);
    delete_all(|after| db.delete_forgotten_counters(after, forgotten)).await
}

/// Reads all requests of mails once and deletes the expired ones. Returns their number.
async fn delete_expired_mails(db: &Db, now: Timestamp) -> Result<usize, db::Error> {
    delete_all(|after| db.delete_expired_mails(after, now)).await
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
