//! Takes committed events to Kafka, at least once and in order per user.
//!
//! One replica at a time publishes, elected by a lease row. A [`tick`](Poller::tick) reads
//! the oldest events, publishes them outside any transaction, and deletes what Kafka
//! acknowledged. Whatever dies in between leaves the rows, and the next poller, here or
//! elsewhere, publishes them again, byte for byte the same. The lease only saves
//! duplicates; order does not hang on it, since a user's later event is never sent before
//! the earlier one was acknowledged.
//!
//! A fault of the environment is waited out for ever. Only a record that Kafka will never
//! take is parked, and holds up nobody but its own user.

pub mod backoff;
pub mod kafka;
mod metrics;
pub mod partition;
pub mod publisher;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::metrics::Metrics;
use self::publisher::{Part, PublishError, Publisher};
use crate::{
    db::{self, Db},
    model::{Clock, PendingEvent, ReplicaId},
    telemetry::Causes,
};

/// How long a replica that died holds up the others.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// A lease with less left is renewed, so that it outlasts a leader that hangs and a produce
/// call to another one.
const LEASE_RENEWAL: Duration = Duration::from_secs(12);
const _: () = assert!(
    kafka::LEADER_TIMEOUT.as_secs() + kafka::PRODUCE_TIMEOUT.as_secs() < LEASE_RENEWAL.as_secs()
);
/// How many events a tick reads: enough to fill every partition's produce calls.
const BATCH: usize = 1000;
/// The commit of another replica is seen this soon.
const IDLE: Duration = Duration::from_millis(200);
/// How soon a released lease is taken over.
const STANDBY: Duration = Duration::from_secs(1);

/// How long a tick may go on when the service stops: Kafka may never answer, and the lease
/// is still to be released.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes the outbox.
pub struct Poller {
    db: Db,
    publisher: Arc<dyn Publisher>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    replica: ReplicaId,
    lease_until: Option<Instant>,
    pass: Pass,
    metrics: Metrics,
}

/// A way through the backlog, begun when some of a full batch did not get through: the oldest
/// events may all be of a partition that does not work, while the others do. Each event is
/// tried once, so a pass is one try, however many ticks it takes.
#[derive(Default)]
struct Pass {
    /// The last event that was tried; rows count from 1.
    after: i64,
    fault: Option<PublishError>,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Another replica publishes.
    Standby,
    /// There was nothing to publish.
    Idle,
    /// Events were published, parked or passed over; there may be more.
    Progress,
}

/// Why a tick could not go on. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// Kafka.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Poller {
    /// A poller that is woken by `wake` after a commit in this process.
    #[must_use]
    pub fn new(
        db: Db,
        publisher: Arc<dyn Publisher>,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        let replica = ReplicaId::new(clock.now());
        Self {
            db,
            publisher,
            clock,
            wake,
            replica,
            lease_until: None,
            pass: Pass::default(),
            metrics,
        }
    }

    /// Polls until `stop` is cancelled, then gives the lease up.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut faults = Faults::default();
        while !stop.is_cancelled() {
            let patience = async {
                stop.cancelled().await;
                sleep(PATIENCE).await;
            };
            let tick = tokio::select! {
                tick = self.tick() => tick,
                // What Kafka has and the table still has is published once more.
                () = patience => break,
            };
            let wait = faults.judge(&tick);
            let woken = async {
                match tick {
                    Ok(Outcome::Progress) => {}
                    Ok(Outcome::Idle) => tokio::select! {
                        () = self.wake.notified() => {}
                        () = sleep(wait) => {}
                    },
                    // A commit cannot help; a flood of them must not become a flood of tries.
                    Ok(Outcome::Standby) | Err(_) => sleep(wait).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = woken => {}
            }
        }
        self.release().await;
    }

    /// Publishes one batch.
    pub async fn tick(&mut self) -> Result<Outcome, Error> {
        let pass = std::mem::take(&mut self.pass);
        let Some(until) = self.hold_lease().await? else {
            return Ok(Outcome::Standby);
        };
        let mut events = self.db.pending_events(pass.after, BATCH).await?;
        let last_of_full = events.get(BATCH - 1).map(|event| event.id);
        self.keep_order(&mut events, pass.after).await?;
        if events.is_empty() && pass.fault.is_none() {
            return Ok(Outcome::Idle);
        }
        let part = match pass.after {
            0 => Part::First,
            _ => Part::Next,
        };
        let published = self.publisher.publish(&events, part, until).await;
        if !published.acknowledged.is_empty() {
            let count = u64::try_from(published.acknowledged.len()).unwrap_or(u64::MAX);
            self.metrics.published.inc_by(count);
            self.db.delete_events(&published.acknowledged).await?;
        }
        for (id, reason) in &published.refused {
            self.park(&events, *id, reason).await?;
        }
        match (pass.fault.or(published.fault), last_of_full) {
            (None, _) => Ok(Outcome::Progress),
            (Some(fault), Some(after)) if !published.out_of_reach => {
                let fault = Some(fault);
                self.pass = Pass { after, fault };
                Ok(Outcome::Progress)
            }
            (Some(fault), _) => Err(fault.into()),
        }
    }

    /// Leaves out the events whose user has one that this pass has been by, and that is still
    /// there. That is asked of the rows, not remembered: a lower id may have become visible since.
    async fn keep_order(&self, events: &mut Vec<PendingEvent>, by: i64) -> Result<(), db::Error> {
        let (Some(last), 1..) = (events.last(), by) else {
            return Ok(());
        };
        let waiting = self.db.users_waiting(by, last.id).await?;
        events.retain(|event| !waiting.contains(&event.user_id));
        Ok(())
    }

    /// Until when this replica is sure to hold the lease, if it does. Counted from before
    /// the database was asked, so never later than the database thinks.
    async fn hold_lease(&mut self) -> Result<Option<Instant>, db::Error> {
        let now = Instant::now();
        if let Some(until) = self.lease_until
            && until.saturating_duration_since(now) > LEASE_RENEWAL
        {
            return Ok(Some(until));
        }
        let held = self.db.hold_lease(self.replica, LEASE_TTL).await;
        let held = held.inspect_err(|_| {
            let still = self.lease_until.is_some_and(|until| Instant::now() < until);
            self.metrics.lease_held.set(still.into());
        })?;
        if held != self.lease_until.is_some() {
            info!(replica = %self.replica, held, "outbox lease changed hands");
        }
        self.lease_until = held.then(|| now + LEASE_TTL);
        self.metrics.lease_held.set(held.into());
        Ok(self.lease_until)
    }

    async fn park(&self, events: &[PendingEvent], id: i64, reason: &str) -> Result<(), db::Error> {
        if let Some(event) = events.iter().find(|event| event.id == id) {
            error!(event_id = %event.event_id, event_type = event.event_type,
                user_id = %event.user_id, user_version = event.user_version, reason,
                "Kafka refuses an event: it is parked and holds up the later events of its user; \
                 see `auth-service outbox list`");
        }
        self.db.park_event(id, reason, self.clock.now()).await
    }

    async fn release(&self) {
        self.metrics.lease_held.set(0);
        if self.lease_until.is_some()
            && let Err(error) = self.db.release_lease(self.replica).await
        {
            warn!(error = %Causes(&error), "cannot release the outbox lease; it ends by itself");
        }
    }
}

/// At the longest waits a lasting fault is said again after some minutes.
const REMINDER: u32 = 20;

/// Decides how long to wait, and says now and then what is wrong instead of at every try.
#[derive(Default)]
struct Faults {
    in_a_row: u32,
    reported: Option<String>,
}

impl Faults {
    fn judge(&mut self, tick: &Result<Outcome, Error>) -> Duration {
        match tick {
            Ok(outcome) => {
                if self.reported.take().is_some() {
                    info!("publishing events again");
                }
                self.in_a_row = 0;
                match outcome {
                    Outcome::Standby => STANDBY,
                    Outcome::Idle | Outcome::Progress => IDLE,
                }
            }
            Err(error) => {
                let text = Causes(error).to_string();
                if self.is_news(&text) {
                    warn!(
                        error = text,
                        "cannot publish events; they wait in the outbox"
                    );
                } else {
                    debug!(error = text, "still cannot publish events");
                }
                backoff::delay(self.in_a_row, getrandom::u32().unwrap_or(u32::MAX))
            }
        }
    }

    fn is_news(&mut self, fault: &str) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let is_due = self.in_a_row.is_multiple_of(REMINDER);
        self.reported.replace(fault.to_owned()).as_deref() != Some(fault) || is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_fault_is_told_at_once_and_then_now_and_again() {
        let mut faults = Faults::default();
        let told: Vec<_> = (1..=2 * REMINDER)
            .filter(|_| faults.is_news("no broker"))
            .collect();
        assert_eq!(told, [1, REMINDER, 2 * REMINDER]);
        assert!(faults.is_news("no topic") && !faults.is_news("no topic"));
    }
}
