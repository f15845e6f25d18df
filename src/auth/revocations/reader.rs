//! Reads what is new in the table of revocations.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Revocations, list::Read};
use crate::{
    db::{self, Db},
    model::{Clock, Revocation, Timestamp},
};

/// Most transactions take less. One that waits longer for its commit is found by a far read.
pub(super) const BACK: Duration = Duration::from_secs(5);
/// The longest that a transaction may wait for its commit. Its client has given up long before.
pub(super) const FAR_BACK: Duration = Duration::from_mins(2);
const FAR_INTERVAL: Duration = Duration::from_secs(10);
/// From here on everything is read.
const EPOCH: Timestamp = Timestamp::from_micros(0);

pub(super) struct Reader {
    db: Db,
    revocations: Revocations,
    own_clock: Arc<dyn Clock>,
    /// The time by the clock of the database, and when it was asked.
    clock: (Timestamp, Instant),
    /// `None` at first, and after a failure.
    far_read_at: Option<Instant>,
    /// A read goes on where it failed: a large table is not read again and again.
    unfinished: Option<(Read, Timestamp)>,
}

impl Reader {
    pub(super) fn new(db: Db, revocations: Revocations, own_clock: Arc<dyn Clock>) -> Self {
        Self {
            db,
            revocations,
            own_clock,
            clock: (EPOCH, Instant::now()),
            far_read_at: None,
            unfinished: None,
        }
    }

    /// Reads what is new since the last complete read.
    pub(super) async fn read(&mut self) -> Result<(), db::Error> {
        let read = self.try_read().await;
        if read.is_err() {
            self.far_read_at = None;
        }
        read
    }

    async fn try_read(&mut self) -> Result<(), db::Error> {
        let far_read_at = self.far_read_at;
        let is_far = far_read_at.is_none_or(|at| at.elapsed() >= FAR_INTERVAL);
        if is_far {
            self.clock = (self.db.now().await?, Instant::now());
        }
        self.finish().await?;
        let last = self.revocations.list().read_at();
        self.read_back(last, BACK).await?;
        if is_far {
            if last.is_some() {
                // After the news, which must not wait for it. Both go back from the same read: after
                // an outage, a transaction that is older may have committed meanwhile.
                self.read_back(last, FAR_BACK).await?;
            }
            self.revocations.list_mut().forget();
            self.far_read_at = Some(Instant::now());
        }
        Ok(())
    }

    /// `last` is the last complete read: without one everything is read.
    async fn read_back(
        &mut self,
        last: Option<Timestamp>,
        back: Duration,
    ) -> Result<(), db::Error> {
        let at = self.now();
        let from = last.map_or(EPOCH, |last| last.min(at) - back);
        let read = Read {
            number: self.revocations.begin_read(),
            at,
            now: at.min(self.own_clock.now()),
        };
        self.unfinished = Some((read, from));
        self.finish().await
    }

    async fn finish(&mut self) -> Result<(), db::Error> {
        while let Some((read, from)) = self.unfinished {
            let expired = read.now - Revocation::CLOCK_SKEW;
            let (found, next) = self.db.revocations_from(from, expired).await?;
            self.revocations.add(found, self.now());
            self.unfinished = next.map(|next| {
                // Each page must bring the read forward.
                (read, next.max(from + Duration::from_micros(1)))
            });
            if next.is_none() {
                self.revocations.complete(read);
            }
        }
        Ok(())
    }

    /// The time by the clock of the database.
    fn now(&self) -> Timestamp {
        let (then, asked) = self.clock;
        then + asked.elapsed()
    }
}
