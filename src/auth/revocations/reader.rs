use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Revocations, list::Read};
use crate::{
    db::{self, Db},
    model::{Clock, Revocation, Timestamp},
};

/// A transaction that waits longer for its commit is found by a far read.
pub(super) const BACK: Duration = Duration::from_secs(5);
/// The longest that a transaction may wait for its commit. Its client has given up long before.
pub(super) const FAR_BACK: Duration = Duration::from_mins(10);
/// One of so many reads goes far back.
const FAR_READS: u32 = 100;
/// From here on everything is read.
const EPOCH: Timestamp = Timestamp::from_micros(0);

pub(super) struct Reader {
    db: Db,
    revocations: Revocations,
    own_clock: Arc<dyn Clock>,
    /// The reads since the last failure.
    reads: u32,
    /// What the clock of the database said, and when.
    clock: (Timestamp, Instant),
}

impl Reader {
    pub(super) fn new(db: Db, revocations: Revocations, own_clock: Arc<dyn Clock>) -> Self {
        Self {
            db,
            revocations,
            own_clock,
            reads: 0,
            clock: (EPOCH, Instant::now()),
        }
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.reads == 0
    }

    /// Reads what is new since the last complete read.
    pub(super) async fn read(&mut self) -> Result<(), db::Error> {
        let is_far = self.reads.is_multiple_of(FAR_READS);
        let read = self.read_back(is_far).await;
        self.reads = if read.is_ok() {
            self.reads % FAR_READS + 1
        } else {
            0
        };
        read
    }

    async fn read_back(&mut self, is_far: bool) -> Result<(), db::Error> {
        if is_far {
            self.clock = (self.db.now().await?, Instant::now());
        }
        let began = self.now();
        let now = began.min(self.own_clock.now());
        let back = if is_far { FAR_BACK } else { BACK };
        let last = self.revocations.list().read_at();
        let mut from = last.map_or(EPOCH, |last| last.min(began) - back);
        loop {
            let expired = now - Revocation::CLOCK_SKEW;
            let (found, next) = self.db.revocations_from(from, expired).await?;
            let recorded = self.revocations.list_mut().add(found, began);
            if last.is_some() {
                let read_at = self.now();
                let delays = recorded
                    .iter()
                    .map(|&recorded_at| read_at.since(recorded_at));
                delays.for_each(|delay| self.revocations.metrics.delayed(delay));
            }
            match next {
                // Each page must bring the read forward.
                Some(next) => from = next.max(from + Duration::from_micros(1)),
                None => break,
            }
        }
        self.complete(Read { at: began, now }, is_far);
        Ok(())
    }

    fn complete(&self, read: Read, is_far: bool) {
        let mut list = self.revocations.list_mut();
        let count = list.complete(read);
        if is_far {
            list.forget();
        }
        drop(list);
        self.revocations.metrics.read_at(read.at);
        // Watchers wait for the first read, even if it finds none.
        self.revocations.news.send_if_modified(|seen| {
            let is_new = *seen != count + 1;
            *seen = count + 1;
            is_new
        });
    }

    /// By the clock of the database.
    fn now(&self) -> Timestamp {
        let (then, asked) = self.clock;
        then + asked.elapsed()
    }
}
