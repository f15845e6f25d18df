use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Metrics,
    faults::Faults,
    lease::Lease,
    pass::Pass,
    publisher::{PublishError, Publisher},
};
use crate::{
    db::{self, Db},
    model::{Batch, Clock, PendingEvent, ReplicaId},
};

/// Enough events to fill produce requests to every partition.
const BATCH_SIZE: usize = 1000;

/// The time limit for a tick after the service began to stop. Kafka may never answer, and the
/// lease must still be released.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Publishes the outbox, tick by tick.
pub struct Poller {
    db: Db,
    publisher: Arc<dyn Publisher>,
    clock: Arc<dyn Clock>,
    commits: Arc<Notify>,
    lease: Lease,
    pass: Pass,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Another replica publishes.
    Standby,
    Idle,
    /// Events were published, parked, postponed or skipped; there may be more.
    Progress,
}

/// Why a tick failed. No event is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Poller {
    /// `commits` is notified after each commit of events in this process.
    pub fn new(
        db: Db,
        publisher: Arc<dyn Publisher>,
        clock: Arc<dyn Clock>,
        commits: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        let replica = ReplicaId::new(clock.now());
        Self {
            lease: Lease::new(db.clone(), replica, metrics.lease_held.clone()),
            db,
            publisher,
            clock,
            commits,
            pass: Pass::default(),
            metrics,
        }
    }

    /// Polls until `stop` is cancelled, then releases the lease.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut faults = Faults::default();
        while !stop.is_cancelled() {
            let tick = tokio::select! {
                tick = self.tick() => tick,
                // Acknowledged events that were not deleted yet are published again later.
                () = grace_period_after(&stop) => break,
            };
            let Some(wait) = faults.wait_after(&tick) else {
                continue;
            };
            let is_idle = matches!(tick, Ok(Outcome::Idle));
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
                // Not after a fault: a commit does not end it, and many commits would cause
                // many attempts.
                () = self.commits.notified(), if is_idle => {}
            }
        }
        self.lease.release().await;
    }

    pub async fn tick(&mut self) -> Result<Outcome, Error> {
        // Each early return ends the pass.
        let pass = mem::take(&mut self.pass);
        let Some(lease_end) = self.lease.hold().await? else {
            return Ok(Outcome::Standby);
        };
        let after = pass.resume_position();
        let Batch {
            events,
            last_of_full,
        } = self.db.pending_events(after, BATCH_SIZE).await?;
        if events.is_empty() && matches!(pass, Pass::New) {
            return Ok(Outcome::Idle);
        }
        let batch = pass.next_batch();
        let published = self.publisher.publish(&events, batch, lease_end).await;
        self.delete(&published.acknowledged).await?;
        self.park(&events, &published.refused).await?;
        self.postpone_or_park(&events, &published.untimely).await?;
        self.pass = pass.advance(events.len(), published, last_of_full, Instant::now())?;
        Ok(Outcome::Progress)
    }

    async fn delete(&self, acknowledged: &[i64]) -> Result<(), db::Error> {
        if acknowledged.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(acknowledged.len()).unwrap_or(u64::MAX);
        self.metrics.published.inc_by(count);
        self.db.delete_events(acknowledged).await
    }

    async fn park(
        &self,
        events: &[PendingEvent],
        refused: &[(i64, String)],
    ) -> Result<(), db::Error> {
        for (id, reason) in refused {
            if let Some(event) = events.iter().find(|event| event.id == *id) {
                error!(event_id = %event.event_id, event_type = event.event_type,
                    user_id = %event.user_id, user_version = event.user_version, reason,
                    "Kafka refuses an event: it is parked and holds up the later events of its \
                     user; see `auth-service outbox list`");
            }
            self.db.park_event(*id, reason, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Events whose time Kafka refused wait for Kafka's clock, unless they are too old. The
    /// clock of this replica may be the one that was ahead, so the database's decides.
    async fn postpone_or_park(
        &self,
        events: &[PendingEvent],
        untimely: &[i64],
    ) -> Result<(), db::Error> {
        if untimely.is_empty() {
            return Ok(());
        }
        let now = self.db.now().await?;
        let untimely = events.iter().filter(|event| untimely.contains(&event.id));
        let (postponed, old): (Vec<_>, Vec<_>) =
            untimely.partition(|event| event.may_become_timely(now));
        if let Some(event) = postponed.first() {
            warn!(event_id = %event.event_id, occurred_at = %event.occurred_at, database_now = %now,
                count = postponed.len(), "Kafka refuses the time of events: a clock was ahead; \
                they wait, and hold up only the later events of their users");
            let ids: Vec<_> = postponed.iter().map(|event| event.id).collect();
            self.db.postpone_events(&ids).await?;
        }
        let reason = |event: &PendingEvent| (event.id, "InvalidTimestamp".to_owned());
        let refused: Vec<_> = old.into_iter().map(reason).collect();
        self.park(events, &refused).await
    }
}

async fn grace_period_after(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_GRACE_PERIOD).await;
}
