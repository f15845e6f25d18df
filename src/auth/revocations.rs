//! The revocations that gateways need, as this replica has read them from the database.
//!
//! A task reads the new ones every [`INTERVAL`], and at once after a commit of this process. All
//! watchers share one list and each has a place in it, so a slow watcher takes no memory.
//!
//! A row can become visible long after it was written: its transaction may wait for the commit.
//! Each read therefore goes back a little, and some go far back. A cursor is the time of a read.
//! A watcher that comes back with it receives also what was written a while before.

mod list;
mod metrics;
mod reader;
mod watcher;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{list::List, metrics::Metrics, reader::Reader};
pub use self::{list::Page, watcher::Watcher};
use crate::{db::Db, model::Clock, telemetry::Causes};

/// Between two reads without a commit of this process.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two reads, however many commits there are.
const LEAST_INTERVAL: Duration = Duration::from_millis(25);

/// Clones share one list.
#[derive(Clone)]
pub struct Revocations {
    list: Arc<RwLock<List>>,
    /// Changes with the first read and with each new revocation.
    news: watch::Sender<u64>,
    metrics: Metrics,
}

impl Revocations {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            list: Arc::default(),
            news: watch::Sender::default(),
            metrics: Metrics::register(registry),
        }
    }

    /// Reads the database until `stop`. Each notification of `commits` makes a read earlier.
    pub async fn run(
        self,
        db: Db,
        clock: Arc<dyn Clock>,
        commits: Arc<Notify>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut reader = Reader::new(db, self, clock);
        let reading = async {
            let mut has_failed = false;
            loop {
                let began = Instant::now();
                match reader.read().await {
                    Ok(()) if has_failed => info!("revocations can be read again"),
                    Err(error) if !has_failed => {
                        warn!(error = %Causes(&error), "cannot read revocations; trying again");
                    }
                    Ok(()) | Err(_) => {}
                }
                has_failed = reader.has_failed();
                sleep_until(began + LEAST_INTERVAL).await;
                tokio::select! {
                    () = sleep_until(began + INTERVAL) => {}
                    () = commits.notified() => {}
                }
            }
        };
        Box::pin(stop.run_until_cancelled(reading)).await;
        Ok(())
    }

    fn list(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_mut(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn watch(&self) -> Watcher {
        Watcher::new(Arc::clone(&self.list), &self.news, &self.metrics)
    }
}
