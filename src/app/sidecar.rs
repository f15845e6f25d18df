//! Builds and runs the parts of `auth-service edge`, as `app` does for the service.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use anyhow::anyhow;
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::info;

use super::{admin, listen::listen, tasks::Tasks};
use crate::{
    config,
    edge::{
        Checks, Knowledge, Metrics, Server, ServerLimits, State, WatchLimits, WatchSettings,
        Watcher, watch_freshness,
    },
    model::Clock,
    telemetry,
};

/// The sidecar, listening but not serving yet.
pub struct Sidecar {
    listener: TcpListener,
    admin_listener: TcpListener,
    pub limits: ServerLimits,
    pub watch_limits: WatchLimits,
    watch: WatchSettings,
    knowledge: Arc<Knowledge>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    registry: Registry,
}

impl Sidecar {
    /// Opens the ports. The service is not asked.
    pub fn build(config: config::Edge, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut registry = telemetry::metrics::registry();
        Ok(Self {
            listener: listen("EDGE_ADDR", config.edge_addr)?,
            admin_listener: listen("ADMIN_ADDR", config.admin_addr)?,
            limits: ServerLimits::default(),
            watch_limits: WatchLimits::default(),
            knowledge: Arc::new(Knowledge::new(&config.settings)),
            watch: config.settings.watch,
            clock,
            metrics: Metrics::register(&mut registry),
            registry,
        })
    }

    pub fn edge_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    /// Serves until `stop` is cancelled, then drains. Fails if a task ended by itself.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let urls = self.watch.urls.join(",");
        info!(edge = %self.edge_addr()?, admin = %self.admin_addr()?, urls, "listening");
        let mut tasks = Tasks::default();
        let mut admin = self.start(stop.clone(), &mut tasks);
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            failure = tasks.failed() => Some(failure),
            ended = &mut admin => Some(anyhow!("the admin server ended: {ended:?}")),
        };
        info!("stopping");
        tasks.stop();
        let ended = tasks.ended().await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        info!("stopped");
        ended
    }

    /// The admin server answers until the process ends, so that operators can watch the drain.
    fn start(self, stop: CancellationToken, tasks: &mut Tasks) -> AbortOnDropHandle<Infallible> {
        let (knowledge, metrics) = (self.knowledge, self.metrics);
        let shared = || (Arc::clone(&knowledge), Arc::clone(&self.clock));
        let (known, clock) = shared();
        let watcher = Watcher::new(self.watch, self.watch_limits, known, clock);
        tasks.spawn("watch", |stop| watcher.run(stop).map(Ok));
        let (known, clock) = shared();
        tasks.spawn("freshness", |stop| {
            watch_freshness(known, clock, stop).map(Ok)
        });
        let (known, clock) = shared();
        let server = Server {
            listener: self.listener,
            checks: Checks {
                knowledge: known,
                clock,
                metrics: metrics.clone(),
            },
            limits: self.limits,
        };
        tasks.spawn("edge server", |stop| server.serve(stop).map(Ok));
        let known = Arc::clone(&knowledge);
        let readiness = move || readiness(&knowledge, &stop);
        let measure = move || metrics.measure(&known);
        let admin = admin::serve(self.admin_listener, readiness, self.registry, measure);
        AbortOnDropHandle::new(tokio::spawn(admin))
    }
}

fn readiness(knowledge: &Knowledge, stop: &CancellationToken) -> Result<(), &'static str> {
    let now = Instant::now();
    if stop.is_cancelled() {
        return Err("the edge is stopping");
    }
    match knowledge.state(now) {
        _ if knowledge.answers(now) => Ok(()),
        State::Starting => Err("the revocations are not known yet"),
        State::KeysTooOld => Err("the keys are too old"),
        State::Fresh | State::Stale => Err("new revocations are unknown"),
    }
}
