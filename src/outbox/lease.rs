use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tracing::{info, warn};

use super::kafka::{LEADER_TIMEOUT, PRODUCE_TIMEOUT};
use crate::{
    db::{self, Db, Hold},
    model::ReplicaId,
    telemetry::Causes,
};

/// After a replica dies, the others wait this long.
const TTL: Duration = Duration::from_secs(15);

/// A lease with less time left is renewed, so that it outlasts a leader that hangs and then a
/// produce request to another one.
const RENEW_BELOW: Duration = Duration::from_secs(12);
const _: () = assert!(LEADER_TIMEOUT.as_secs() + PRODUCE_TIMEOUT.as_secs() < RENEW_BELOW.as_secs());

/// The lease of the one replica that publishes.
pub(super) struct Lease {
    db: Db,
    replica: ReplicaId,
    end: Option<Instant>,
    held: Gauge,
}

impl Lease {
    pub(super) fn new(db: Db, replica: ReplicaId, held: Gauge) -> Self {
        Self {
            db,
            replica,
            end: None,
            held,
        }
    }

    /// Takes or renews the lease. Returns its end, or `None` if another replica holds it.
    ///
    /// The end is counted from before the database was asked, so it is never later than the
    /// end that the database knows.
    pub(super) async fn hold(&mut self) -> Result<Option<Instant>, db::Error> {
        let now = Instant::now();
        if let Some(end) = self.end
            && end.saturating_duration_since(now) > RENEW_BELOW
        {
            return Ok(Some(end));
        }
        let held = self.db.hold_lease(self.replica, TTL).await;
        let held = held.inspect_err(|_| {
            let still_held = self.end.is_some_and(|end| Instant::now() < end);
            self.held.set(still_held.into());
        })?;
        if held == Hold::TakenFromTheFuture {
            warn!(replica = %self.replica, "the outbox lease ended later than any lease can: the \
                clock of the database was ahead; it is taken over");
        }
        let held = held != Hold::Refused;
        if held != self.end.is_some() {
            let change = if held { "acquired" } else { "lost" };
            info!(replica = %self.replica, held, "outbox lease {change}");
        }
        self.end = held.then(|| now + TTL);
        self.held.set(held.into());
        Ok(self.end)
    }

    pub(super) async fn release(&self) {
        self.held.set(0);
        if self.end.is_some()
            && let Err(error) = self.db.release_lease(self.replica).await
        {
            warn!(error = %Causes(&error), "cannot release the outbox lease; it ends by itself");
        }
    }
}
