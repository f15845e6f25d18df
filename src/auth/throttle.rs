//! Counting an attempt before its hash begins, and taking the count back if it was no failure.
//!
//! The statements run in tasks of their own: a caller that is gone can neither leave a counter
//! half raised nor keep a count from being taken back. An orderly stop waits for the tasks.

use std::{mem::take, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, warn};

use super::{Auth, Error};
use crate::{
    db::{self, Admission, Count, Counted, Db},
    model::{Clock, CounterId, DataKeys, ThrottleLimits},
    password::Began,
    telemetry::{
        Causes, LIMITED,
        audit::{Audit, Reason},
    },
};

#[derive(Clone)]
pub(super) struct Throttle {
    pub(super) db: Db,
    pub(super) limits: ThrottleLimits,
    pub(super) data_keys: Arc<DataKeys>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
}

/// A counted attempt. Unless its hash began, dropping it takes the count back: a call that was
/// refused or given up before has guessed nothing.
pub(super) struct Attempt {
    throttle: Throttle,
    counted: Counted,
    /// For the hash of the attempt, which must be dropped before the attempt is.
    pub(super) began: Began,
}

type Outcome<T> = Result<Result<T, Duration>, db::Error>;

impl Throttle {
    /// Counts an attempt, or says how long it has to wait.
    async fn begin(&self, counters: &[CounterId<'_>]) -> Outcome<Attempt> {
        let (throttle, counts) = (self.clone(), self.counts(counters));
        self.run(async move {
            Ok(throttle.count(&counts).await?.map(|counted| Attempt {
                throttle,
                counted,
                began: Began::default(),
            }))
        })
        .await
    }

    /// Counts what is never taken back.
    async fn count_for_good(&self, counters: &[CounterId<'_>]) -> Outcome<()> {
        let (throttle, counts) = (self.clone(), self.counts(counters));
        self.run(async move { Ok(throttle.count(&counts).await?.map(drop)) })
            .await
    }

    fn counts(&self, counters: &[CounterId<'_>]) -> Vec<Count> {
        let count = |id: &CounterId<'_>| Count {
            key: id.key(self.data_keys.current()),
            limits: id.limits(&self.limits),
        };
        counters.iter().map(count).collect()
    }

    async fn count(&self, counts: &[Count]) -> Outcome<Counted> {
        let now = self.clock.now();
        Ok(match self.db.count(counts, now).await? {
            Admission::Counted(counted) => Ok(counted),
            Admission::HeldBack { until } => Err(until.since(now)),
        })
    }

    async fn take_back(self, counted: Counted) -> Result<(), db::Error> {
        self.db.take_back(counted, self.clock.now()).await
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.tasks.spawn(work.in_current_span());
        task.await
            .expect("it does not panic, and only the end of the runtime aborts it")
    }
}

impl Attempt {
    /// Takes the count back after a success.
    pub(super) async fn succeeded(mut self) -> Result<(), db::Error> {
        let (throttle, counted) = (self.throttle.clone(), take(&mut self.counted));
        if counted.is_empty() {
            return Ok(());
        }
        self.throttle.run(throttle.take_back(counted)).await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if self.counted.is_empty() || self.began.get() || Handle::try_current().is_err() {
            return;
        }
        let taking_back = self.throttle.clone().take_back(take(&mut self.counted));
        self.throttle.tasks.spawn(async {
            if let Err(error) = taking_back.await {
                let error = Causes(&error);
                warn!(name: LIMITED, %error, "an attempt without a hash stays counted");
            }
        });
    }
}

impl Auth {
    /// Counts an attempt, or refuses it after too many failures.
    pub(super) async fn begin(
        &self,
        counters: &[CounterId<'_>],
        audit: Audit<'_>,
    ) -> Result<Attempt, Error> {
        let attempt = self.throttle.begin(counters).await?;
        attempt.map_err(|wait| self.too_many(wait, audit))
    }

    /// Counts an attempt whatever its outcome will be.
    pub(super) async fn count_for_good(
        &self,
        counters: &[CounterId<'_>],
        audit: Audit<'_>,
    ) -> Result<(), Error> {
        let counted = self.throttle.count_for_good(counters).await?;
        counted.map_err(|wait| self.too_many(wait, audit))
    }

    fn too_many(&self, retry_after: Duration, audit: Audit<'_>) -> Error {
        self.metrics.throttled.inc();
        audit.failed(Reason::Throttled);
        Error::TooManyAttempts { retry_after }
    }

    /// Waits until the counts of ended calls are settled. Call it after the last call.
    pub async fn settled(&self) {
        self.throttle.tasks.close();
        self.throttle.tasks.wait().await;
    }
}
