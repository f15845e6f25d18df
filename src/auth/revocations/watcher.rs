use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use super::{
    list::{List, Page, Place},
    metrics::Metrics,
};
use crate::model::Cursor;

/// A gateway that hears of revocations.
pub struct Watcher {
    list: Arc<RwLock<List>>,
    news: watch::Receiver<u64>,
    place: Place,
    watchers: Gauge,
}

impl Watcher {
    pub(super) fn new(
        list: Arc<RwLock<List>>,
        news: &watch::Sender<u64>,
        metrics: &Metrics,
    ) -> Self {
        metrics.watchers.inc();
        Self {
            list,
            news: news.subscribe(),
            place: Place::default(),
            watchers: metrics.watchers.clone(),
        }
    }

    /// Waits until there is something to begin with, and goes to the place of this cursor. `false`
    /// without one, or if it is too old or of another database: then all pages are a snapshot.
    pub async fn begin(&mut self, cursor: Option<Cursor>) -> bool {
        // The sender lives as long as the list.
        let _ = self.news.wait_for(|count| *count > 0).await;
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let place = cursor.and_then(|cursor| list.find(cursor));
        self.place = place.unwrap_or_default();
        place.is_some()
    }

    /// What comes next, empty at the end.
    pub fn next(&mut self) -> Page {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.page(&mut self.place)
    }

    /// Waits until there may be more.
    pub async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // The service stops.
            std::future::pending().await
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.dec();
    }
}
