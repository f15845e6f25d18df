//! Wiring and lifecycle: from a [`Config`] to a running service, and its orderly end.
//!
//! Everything that runs is a task of one set. Whichever ends before it was told to takes
//! the process down: half a service is worse than one that is restarted. On `stop` health
//! says NOT_SERVING, no new call is accepted, those that run are finished, the outbox lease
//! is given up.

mod admin;
mod backlog;
mod health;
pub mod housekeeping;
mod system_clock;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use futures::TryFutureExt as _;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

pub use self::system_clock::SystemClock;
use self::{
    admin::Metrics,
    health::{Monitor, Watchers},
};
use crate::{
    auth::{self, Auth},
    config::Config,
    db::Db,
    grpc::{self, Handlers, InternalCallers, Limits},
    model::{Clock, ThrottleLimits},
    outbox::{self, Poller, kafka::KafkaPublisher},
    password::{Hasher, Policy},
    telemetry,
    tls::reload::Reloader,
};

/// How long calls may take to end after `stop`: the longest that leaves the process time
/// to exit within 15 s.
const DRAIN: Duration = Duration::from_secs(13);

/// How long health says NOT_SERVING to whoever asks on an open connection, while there is
/// anything to wait for.
const LINGER: Duration = Duration::from_secs(1);

/// A unit of database work takes milliseconds. After this long something is broken.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(2500);

/// The service, listening but not serving yet.
pub struct App {
    grpc_listener: TcpListener,
    admin_listener: TcpListener,
    /// How long calls and connections may last.
    pub limits: Limits,
    db: Db,
    hasher: Arc<Hasher>,
    auth: Arc<Auth>,
    throttle: ThrottleLimits,
    internal_callers: InternalCallers,
    poller: Option<Poller>,
    tls: Option<Reloader>,
    clock: Arc<dyn Clock>,
    outbox_metrics: outbox::Metrics,
    registry: Registry,
}

impl App {
    /// Checks the hasher, migrates the database and opens the ports. Kafka is not asked.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut registry = telemetry::metrics::registry();
        let hasher = Arc::new(Hasher::start(&config.passwords, &mut registry)?);
        let timeout = database_timeout(config.request_timeout);
        let db = Db::new(&config.database, timeout, &mut registry);
        db.migrate().await?;
        let outbox = Arc::new(Notify::new());
        let outbox_metrics = outbox::Metrics::register(&mut registry);
        let poller = match config.kafka {
            Some(kafka) => Some(Poller::new(
                db.clone(),
                Arc::new(KafkaPublisher::new(kafka, outbox_metrics.produce.clone())),
                Arc::clone(&clock),
                Arc::clone(&outbox),
                outbox_metrics.clone(),
            )),
            None => {
                warn!("KAFKA_BROKERS is not set: events are kept in the outbox");
                None
            }
        };
        let tls = config.tls;
        let tls = tls.map(|tls| Reloader::new(tls.files, &tls.identity, &mut registry));
        let throttle = config.auth.throttle;
        let parts = auth::Parts {
            db: db.clone(),
            hasher: Arc::clone(&hasher),
            policy: Policy::new(&config.passwords),
            clock: Arc::clone(&clock),
            outbox,
        };
        let auth = Arc::new(Auth::new(config.auth, parts, &mut registry));
        Ok(Self {
            grpc_listener: listen("GRPC_ADDR", config.grpc_addr).await?,
            admin_listener: listen("ADMIN_ADDR", config.admin_addr).await?,
            limits: Limits::new(config.request_timeout),
            db,
            hasher,
            auth,
            throttle,
            internal_callers: config.internal_callers,
            poller,
            tls,
            clock,
            outbox_metrics,
            registry,
        })
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> std::io::Result<SocketAddr> {
        self.grpc_listener.local_addr()
    }

    /// Where the probes are answered.
    pub fn admin_addr(&self) -> std::io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    /// Serves until `stop` is cancelled, then drains. An error if a part of the service
    /// ended by itself.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        info!(grpc = %self.grpc_addr()?, admin = %self.admin_addr()?, "listening");
        let health = Monitor::new(self.db.clone()).await;
        let watchers = health.watchers();
        let winding_down = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stopping = || winding_down.clone();

        let server = grpc::Server {
            listener: self.grpc_listener,
            tls: self.tls.as_ref().map(Reloader::current),
            handlers: Handlers {
                auth: self.auth,
                internal_callers: self.internal_callers,
            },
            health: health.reporter(),
            metrics: grpc::Metrics::register(&mut self.registry),
            limits: self.limits,
        };
        let metrics = Metrics::new(self.registry, self.db.clone());
        tasks.spawn(server.serve(stopping()).map_err(Into::into));
        if let Some(tls) = self.tls {
            tasks.spawn(tls.run(stopping()));
        }
        // To the very end: operators watch the drain too.
        let mut admin = AbortOnDropHandle::new(tokio::spawn(admin::serve(
            self.admin_listener,
            health.readiness(),
            metrics,
        )));
        tasks.spawn(health.run(stopping()));
        tasks.spawn(backlog::run(
            self.db.clone(),
            Arc::clone(&self.clock),
            self.outbox_metrics,
            stopping(),
        ));
        tasks.spawn(housekeeping::run(
            self.db,
            self.throttle,
            self.clock,
            stopping(),
        ));
        if let Some(poller) = self.poller {
            let stop = stopping();
            tasks.spawn(async move {
                poller.run(stop).await;
                Ok(())
            });
        }
        let (hasher, stop_watching) = (self.hasher, stopping());
        tasks.spawn(async move {
            tokio::select! {
                () = stop_watching.cancelled() => Ok(()),
                () = hasher.failed() => bail!("a password thread died"),
            }
        });

        let early = tokio::select! {
            () = stop.cancelled() => None,
            ended = tasks.join_next() => ended,
            ended = &mut admin => Some(ended.map(|ended| ended.map_err(Into::into))),
        };
        info!("stopping");
        winding_down.cancel();
        let drained = drain(&mut tasks, watchers).await;
        match early {
            Some(ended) => {
                ended.context("a task panicked")??;
                bail!("a task ended before its time")
            }
            None => {
                info!("stopped");
                drained
            }
        }
    }
}

/// Waits for the tasks to end, but not for ever: a client may hold a stream open.
async fn drain(tasks: &mut JoinSet<anyhow::Result<()>>, watchers: Watchers) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut result = Ok(());
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            result = result.and(ended.context("a task panicked").flatten());
        }
        result
    };
    tokio::pin!(all);
    if let Ok(result) = timeout_at(started + LINGER, &mut all).await {
        return result;
    }
    watchers.dismiss().await;
    match timeout_at(started + DRAIN, all).await {
        Ok(result) => result,
        Err(_) => {
            warn!("stopped before all calls had ended");
            Ok(())
        }
    }
}

/// A database that hangs must leave the call time to say so.
fn database_timeout(request_timeout: Duration) -> Duration {
    DATABASE_TIMEOUT.min(request_timeout / 2)
}

async fn listen(variable: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("{variable}: cannot listen on {addr}"))
}
