//! Whether the service serves: while its database answers. Kafka does not count, since no
//! call waits for it.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};
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

/// Watches the database and tells `grpc.health.v1` and `/readyz`.
pub(super) struct Monitor {
    db: Db,
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
}

impl Monitor {
    /// Asks once, so that the first caller gets a true answer.
    pub(super) async fn new(db: Db) -> (Self, HealthServer<impl Health>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let monitor = Self {
            db,
            reporter,
            ready: watch::Sender::new(false),
        };
        monitor.check(None).await;
        (monitor, service)
    }

    /// Who watches, to be sent home.
    pub(super) fn watchers(&self) -> Watchers {
        Watchers(self.reporter.clone())
    }

    /// Whether the service serves.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Watches until `stop`; then the service does not serve any more.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            let was_ready = *self.ready.borrow();
            self.check(Some(was_ready)).await;
        }
        self.tell(false).await;
        Ok(())
    }

    /// Asks, and logs what is new.
    async fn check(&self, was_ready: Option<bool>) {
        let fault = self.db.ping().await.err();
        let fault = fault.map(|error| Causes(&error).to_string());
        match &fault {
            Some(fault) if was_ready != Some(false) => warn!(fault, "not serving"),
            None if was_ready != Some(true) => info!("serving"),
            _ => {}
        }
        self.tell(fault.is_none()).await;
    }

    async fn tell(&self, ready: bool) {
        self.ready.send_replace(ready);
        let status = if ready {
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
