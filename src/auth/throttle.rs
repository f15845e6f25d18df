//! Counting an attempt before its hash begins, and taking the count back if it was no failure.
//!
//! The statements run in tasks of their own: a caller that is gone can neither leave a counter
//! half raised nor keep a count from being taken back. The number of tasks that count is bounded
//! for the whole process, and one that takes back what it counted for a caller that is gone is
//! still among them. A call that ends between its count and its hash leaves another task: it is
//! gone after the time limit of the database at the latest. An orderly stop waits for all tasks.

use std::{mem::take, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
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

/// The attempts of each class that are counted at the same time. Further ones wait, as they would
/// wait for a connection to the database.
const COUNTING: usize = 256;

/// The attempts that may be counted now. Those of known devices and signed-in users never meet a
/// flood of others on a counter, and do not wait for one here either.
#[derive(Clone)]
struct Counting {
    known: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Counting {
    fn new() -> Self {
        let [known, others] = [(); 2].map(|()| Arc::new(Semaphore::new(COUNTING)));
        Self { known, others }
    }

    fn of(&self, counters: &[CounterId<'_>]) -> Arc<Semaphore> {
        Arc::clone(match counters {
            [CounterId::Device(..) | CounterId::Session(_)] => &self.known,
            _ => &self.others,
        })
    }
}

#[derive(Clone)]
pub(super) struct Throttle {
    db: Db,
    limits: ThrottleLimits,
    data_keys: Arc<DataKeys>,
    clock: Arc<dyn Clock>,
    counting: Counting,
    tasks: TaskTracker,
}

/// A counted attempt. Unless its hash began, dropping it takes the count back: a call that was
/// refused or given up before has guessed nothing.
pub(super) struct Attempt {
    throttle: Throttle,
    counted: Counted,
    /// Until the caller has the attempt: if it is gone, the permit lasts until the count is taken
    /// back.
    counting: Option<OwnedSemaphorePermit>,
    /// For the hash of the attempt, which must be dropped before the attempt is.
    pub(super) began: Began,
}

type Outcome<T> = Result<Result<T, Duration>, db::Error>;

impl Throttle {
    pub(super) fn new(
        db: Db,
        limits: ThrottleLimits,
        data_keys: Arc<DataKeys>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            db,
            limits,
            data_keys,
            clock,
            counting: Counting::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Counts an attempt, or says how long it has to wait.
    async fn begin(&self, counters: &[CounterId<'_>]) -> Outcome<Attempt> {
        let counting = Some(self.permit(counters).await?);
        let (throttle, counts) = (self.clone(), self.counts(counters));
        let counted = self.run(async move {
            let counted = throttle.count(&counts).await;
            counted.map(|outcome| {
                outcome.map(|counted| Attempt {
                    throttle,
                    counted,
                    counting,
                    began: Began::default(),
                })
            })
        });
        let mut attempt = counted.await?;
        if let Ok(attempt) = &mut attempt {
            attempt.counting = None;
        }
        Ok(attempt)
    }

    /// Counts what is never taken back.
    async fn count_for_good(&self, counters: &[CounterId<'_>]) -> Outcome<()> {
        let counting = self.permit(counters).await?;
        let (throttle, counts) = (self.clone(), self.counts(counters));
        let counted = self.run(async move {
            let counted = throttle.count(&counts).await;
            drop(counting);
            counted
        });
        Ok(counted.await?.map(drop))
    }

    /// A call that is given up while it waits here is not counted.
    async fn permit(&self, counters: &[CounterId<'_>]) -> Result<OwnedSemaphorePermit, db::Error> {
        let permit = self.counting.of(counters).acquire_owned();
        let permit = timeout(self.db.timeout(), permit).await;
        let permit = permit.map_err(|_| db::Error::Timeout)?;
        Ok(permit.expect("the semaphore is never closed"))
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

    async fn take_back(self, counted: Counted) {
        if let Err(error) = self.db.take_back(counted, self.clock.now()).await {
            let error = Causes(&error);
            warn!(name: LIMITED, %error, "an attempt that was no failure stays counted");
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.tasks.spawn(work.in_current_span());
        task.await
            .expect("it does not panic, and only the end of the runtime aborts it")
    }
}

impl Attempt {
    /// Takes the count back after a success, which it never makes fail.
    pub(super) async fn succeeded(mut self) {
        let (throttle, counted) = (self.throttle.clone(), take(&mut self.counted));
        if !counted.is_empty() {
            self.throttle.run(throttle.take_back(counted)).await;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if self.counted.is_empty() || self.began.get() || Handle::try_current().is_err() {
            return;
        }
        let taking_back = self.throttle.clone().take_back(take(&mut self.counted));
        let counting = self.counting.take();
        self.throttle.tasks.spawn(async {
            taking_back.await;
            drop(counting);
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

    /// Like `count_for_good`, but without an error and an audit line: `false` if there were too many.
    pub(super) async fn is_counted(&self, counters: &[CounterId<'_>]) -> Result<bool, Error> {
        Ok(self.throttle.count_for_good(counters).await?.is_ok())
    }

    pub(super) fn too_many(&self, retry_after: Duration, audit: Audit<'_>) -> Error {
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

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Context};

    use futures::task::noop_waker_ref;
    use prometheus_client::registry::Registry;
    use tokio::task::unconstrained;

    use super::*;
    use crate::{
        db::{Settings, Url},
        model::{ClientAddress, SessionId, Timestamp, registration_counters},
    };

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }
    }

    const LIMITS: ThrottleLimits = ThrottleLimits {
        free_per_device: 1,
        free_per_account: 1,
        free_per_network: 1,
        registrations_per_network: 1,
        daily_per_account: 1,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        fade: Duration::ZERO,
        network_fade: Duration::ZERO,
    };

    /// A database that cannot be opened: none of the tasks ends before the test has counted them.
    #[tokio::test]
    async fn calls_that_are_given_up_at_once_leave_a_bounded_number_of_tasks() {
        let settings = Settings {
            url: Url::Sqlite("/does/not/exist.db".into()),
            max_connections: 1,
            batch_refreshes: false,
        };
        let db = Db::new(&settings, Duration::from_secs(1), &mut Registry::default());
        let keys = Arc::new(DataKeys::for_test(["a"]));
        let throttle = Throttle::new(db, LIMITS, keys, Arc::new(Stopped));
        let address = ClientAddress::parse("192.0.2.1");
        let mut context = Context::from_waker(noop_waker_ref());
        for _ in 0..2 * COUNTING {
            let counters = registration_counters(address);
            let mut begin = pin!(unconstrained(throttle.begin(&counters)));
            assert!(begin.as_mut().poll(&mut context).is_pending());
            let mut count = pin!(unconstrained(throttle.count_for_good(&counters)));
            assert!(count.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(throttle.tasks.len(), COUNTING);
        let session = [CounterId::Session(SessionId::from_bytes([1; 16]))];
        let mut known = pin!(throttle.begin(&session));
        assert!(known.as_mut().poll(&mut context).is_pending());
        assert_eq!(
            throttle.tasks.len(),
            COUNTING + 1,
            "it does not wait for the others"
        );
        throttle.tasks.close();
        throttle.tasks.wait().await;
        assert_eq!(throttle.counting.others.available_permits(), COUNTING);
    }
}
