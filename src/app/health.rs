//! Whether the service serves: while its database answers. Kafka does not count, since no
//! call waits for it.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    db::Db,
    grpc::{ACCOUNT_SERVICE_NAME, SERVICE_NAME},
    telemetry::Causes,
};

/// How often the database is asked. With the time limit of one question, which is the
/// database's own, an outage is told within five seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// The names that clients ask for: the process as a whole, and its services.
const NAMES: [&str; 3] = ["", SERVICE_NAME, ACCOUNT_SERVICE_NAME];

/// Whether the service serves, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It does.
    Ready,
    /// The database does not answer.
    NoDatabase,
    /// It was told to stop.
    Stopping,
}

/// Watches the database and tells `grpc.health.v1` and `/readyz`.
pub(super) struct Monitor {
    db: Db,
    reporter: HealthReporter,
    readiness: watch::Sender<Readiness>,
}

impl Monitor {
    /// Asks once, so that the first caller gets a true answer.
    pub(super) async fn new(db: Db) -> Self {
        let monitor = Self {
            db,
            reporter: HealthReporter::new(),
            readiness: watch::Sender::new(Readiness::NoDatabase),
        };
        monitor.check(None).await;
        monitor
    }

    /// For the health service, and to end its streams.
    pub(super) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Who watches, to be sent home.
    pub(super) fn watchers(&self) -> Watchers {
        Watchers(self.reporter.clone())
    }

    /// Whether the service serves.
    pub(super) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Watches until `stop`; then the service does not serve any more.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            let before = *self.readiness.borrow();
            self.check(Some(before)).await;
        }
        self.tell(Readiness::Stopping).await;
        Ok(())
    }

    /// Asks, and tells and logs what is new.
    async fn check(&self, before: Option<Readiness>) {
        let fault = self.db.ping().await.err();
        let fault = fault.map(|error| Causes(&error).to_string());
        let readiness = if fault.is_none() {
            Readiness::Ready
        } else {
            Readiness::NoDatabase
        };
        if before != Some(readiness) {
            match fault {
                Some(fault) => warn!(fault, "not serving"),
                None => info!("serving"),
            }
            self.tell(readiness).await;
        }
    }

    async fn tell(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
        let status = if readiness == Readiness::Ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// The clients that watch the health of the service. Their streams have no end of their
/// own, and would hold up the drain.
pub(super) struct Watchers(HealthReporter);

impl Watchers {
    /// Ends the streams; the watchers have been told before why.
    pub(super) async fn dismiss(mut self) {
        for name in NAMES {
            self.0.clear_service_status(name).await;
        }
    }
}
