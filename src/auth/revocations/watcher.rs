//! The place of one gateway in the list.

use std::{future::pending, sync::atomic::Ordering};

use tokio::sync::watch;

use super::{
    Revocations,
    list::{Page, Place},
};
use crate::model::Cursor;

/// A gateway that receives revocations.
pub struct Watcher {
    revocations: Revocations,
    /// The reads that had begun before the watcher came.
    earlier: u64,
    news: watch::Receiver<u64>,
    place: Place,
}

impl Watcher {
    pub(super) fn new(revocations: &Revocations) -> Self {
        revocations.metrics.watchers.inc();
        Self {
            earlier: revocations.begun.load(Ordering::SeqCst),
            news: revocations.news.subscribe(),
            place: Place::default(),
            revocations: revocations.clone(),
        }
    }

    /// Waits for a read that began later than the watcher, because this replica may not have
    /// read the database for long. Then goes to the place of the cursor. `false` without one, or
    /// if it is too old or from the future: then all pages are a snapshot.
    pub async fn begin(&mut self, cursor: Option<Cursor>) -> bool {
        let mut complete = self.revocations.complete.subscribe();
        let is_later = |number: &u64| *number > self.earlier;
        // The sender lives as long as `self`.
        let _ = complete.wait_for(is_later).await;
        let place = cursor.and_then(|cursor| self.revocations.list().find(cursor));
        self.place = place.unwrap_or_default();
        place.is_some()
    }

    /// The next revocations, none at the end.
    pub fn next_page(&mut self) -> Page {
        self.revocations.list().page(&mut self.place)
    }

    /// Waits until there may be more.
    pub async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.revocations.metrics.watchers.dec();
    }
}
