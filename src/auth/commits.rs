use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the parts of this process that read what acts have written.
#[derive(Clone, Default)]
pub struct Commits {
    /// For the outbox poller.
    pub events: Arc<Notify>,
    /// For [`Revocations`](super::Revocations).
    pub revocations: Arc<Notify>,
}

impl Commits {
    pub(super) fn notify(&self) {
        self.events.notify_one();
        self.revocations.notify_one();
    }
}
