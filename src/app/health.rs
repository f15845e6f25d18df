//! The service is healthy while its database answers. Kafka does not count, because no call
//! waits for it.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{db::Db, grpc::HealthReporter, telemetry::Causes};

/// How often the database is asked. With the time limit of one query, an outage is
/// reported within five seconds.
const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NoDatabase,
    Stopping,
}

impl Readiness {
    /// An error says what is missing.
    pub(super) const fn as_result(self) -> Result<(), &'static str> {
        match self {
            Self::Ready => Ok(()),
            Self::NoDatabase => Err("the database does not answer"),
            Self::Stopping => Err("the service is stopping"),
        }
    }
}

/// Asks the database regularly, and reports to `grpc.health.v1` and `/readyz`.
pub(super) struct Monitor {
    db: Db,
    reporter: HealthReporter,
    readiness: watch::Sender<Readiness>,
}

impl Monitor {
    /// Asks the database once, so that the first health check gets a true answer.
    pub(super) async fn new(db: Db) -> Self {
        let monitor = Self {
            db,
            reporter: HealthReporter::default(),
            readiness: watch::Sender::new(Readiness::NoDatabase),
        };
        monitor.check(None).await;
        monitor
    }

    pub(super) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    pub(super) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Checks until `stop`, and then reports that the service stops.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            let before = *self.readiness.borrow();
            self.check(Some(before)).await;
        }
        self.report(Readiness::Stopping);
        Ok(())
    }

    async fn check(&self, before: Option<Readiness>) {
        let answer = self.db.ping().await;
        let readiness = match answer {
            Ok(()) => Readiness::Ready,
            Err(_) => Readiness::NoDatabase,
        };
        if before != Some(readiness) {
            match answer {
                Ok(()) => info!("serving"),
                Err(error) => warn!(fault = %Causes(&error), "not serving"),
            }
            self.report(readiness);
        }
    }

    fn report(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
        self.reporter.report(readiness == Readiness::Ready);
    }
}
