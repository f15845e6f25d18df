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
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::{list::Page, watcher::Watcher};
use self::{
    list::{List, Read},
    metrics::Metrics,
    reader::Reader,
};
use crate::{
    db::Db,
    model::{Clock, RecordedRevocation, Timestamp},
    telemetry::Causes,
};

/// Between two reads without a commit of this process. With it, the last of several replicas
/// mostly knows an act of another one within 100 ms.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two reads, however many commits there are.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// After a failed read: many replicas must not hold up a database that starts again.
const FAILED_INTERVAL: Duration = Duration::from_secs(1);

/// Clones share one list.
#[derive(Clone)]
pub struct Revocations {
    list: Arc<RwLock<List>>,
    /// How many reads have begun.
    begun: Arc<AtomicU64>,
    /// The number of the last complete read.
    complete: watch::Sender<u64>,
    /// How many revocations were ever added.
    news: watch::Sender<u64>,
    metrics: Metrics,
}

impl Revocations {
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            list: Arc::default(),
            begun: Arc::default(),
            complete: watch::Sender::default(),
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
                let read = reader.read().await;
                match &read {
                    Ok(()) if has_failed => info!("revocations can be read again"),
                    Err(error) if !has_failed => {
                        warn!(error = %Causes(error), "cannot read revocations; trying again");
                    }
                    Ok(()) | Err(_) => {}
                }
                has_failed = read.is_err();
                if has_failed {
                    sleep_until(began + FAILED_INTERVAL).await;
                    continue;
                }
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

    pub fn watch(&self) -> Watcher {
        Watcher::new(self)
    }

    /// The number of a new read.
    fn begin_read(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn add(&self, found: Vec<RecordedRevocation>, now: Timestamp) {
        let mut list = self.list_mut();
        let is_first = list.read_at().is_none();
        let recorded = list.add(found, now);
        let count = list.count();
        drop(list);
        if is_first {
            return;
        }
        for recorded_at in recorded {
            self.metrics.delayed(now.since(recorded_at));
        }
        self.news.send_if_modified(|seen| {
            let is_new = *seen != count;
            *seen = count;
            is_new
        });
    }

    fn complete(&self, read: Read) {
        let mut list = self.list_mut();
        list.complete(read);
        self.metrics.complete(read.at, list.len());
        drop(list);
        self.complete.send_replace(read.number);
    }

    fn list(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_mut(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}
