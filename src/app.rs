//! Builds the service from a [`Config`], runs it, and ends it in order.
//!
//! All parts run as named tasks of one set. On `stop`, health says NOT_SERVING, no new call
//! is accepted, running calls finish, and the outbox lease is released.

mod admin;
mod backlog;
pub mod data_key;
mod health;
pub mod housekeeping;
mod listen;
pub mod password_seals;
mod sidecar;
mod system_clock;
mod tasks;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use self::{health::Monitor, listen::listen, password_seals::Sealing, tasks::Tasks};
pub use self::{sidecar::Sidecar, system_clock::SystemClock};
use crate::{
    auth::{self, Admin, Auth, Commits, ImportPace, Revocations},
    config::Config,
    db::{self, Db},
    grpc::{self, Exposure, Handlers, HealthReporter, Imports, InternalCallers, Limits, Watches},
    model::{Clock, ThrottleLimits, Timestamp, Transition},
    outbox::{self, Poller, kafka::KafkaPublisher},
    password::{Hasher, Policy},
    telemetry,
    tls::reload::Reloader,
};

/// Time for running calls after `stop`. The process exits within 15 s.
const DRAIN: Duration = Duration::from_secs(13);

/// Health streams stay open for this time after NOT_SERVING, so that clients receive it.
const LINGER: Duration = Duration::from_secs(1);

/// A unit of database work takes milliseconds. A database that needs this long is broken.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(2500);

/// The service, listening but not serving yet.
pub struct App {
    grpc_listener: TcpListener,
    admin_listener: TcpListener,
    pub limits: Limits,
    db: Db,
    hasher: Arc<Hasher>,
    auth: Arc<Auth>,
    revocations: Revocations,
    commits: Commits,
    admin: Arc<Admin>,
    throttle: ThrottleLimits,
    sealing: Sealing,
    seal_metrics: password_seals::Metrics,
    internal_callers: InternalCallers,
    exposure: Exposure,
    poller: Option<Poller>,
    tls: Option<Reloader>,
    clock: Arc<dyn Clock>,
    outbox_metrics: outbox::Metrics,
    registry: Registry,
}

impl App {
    /// Checks the hasher, migrates the database, compares `DATA_KEY` with it, and opens the ports.
    /// Kafka is not asked.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut registry = telemetry::metrics::registry();
        let hasher = Arc::new(Hasher::start(&config.passwords, &mut registry)?);
        // At most half of a call's time, so that the call can still report the time-out.
        let timeout = DATABASE_TIMEOUT.min(config.request_timeout / 2);
        let db = Db::new(&config.database, timeout, &mut registry);
        let built = Self::build_on(db.clone(), config, clock, hasher, registry).await;
        if built.is_err() {
            db.close().await;
        }
        built
    }

    async fn build_on(
        db: Db,
        config: Config,
        clock: Arc<dyn Clock>,
        hasher: Arc<Hasher>,
        mut registry: Registry,
    ) -> anyhow::Result<Self> {
        db.migrate().await?;
        let (keys, embedded) = (&config.auth.data_keys, config.embedded.as_ref());
        data_key::check(&db, keys, embedded, clock.now()).await?;
        let commits = Commits::default();
        let outbox_metrics = outbox::Metrics::register(&mut registry);
        let poller = config.kafka.map(|kafka| {
            let publisher = KafkaPublisher::new(kafka, outbox_metrics.produce.clone());
            let (publisher, clock) = (Arc::new(publisher), Arc::clone(&clock));
            let (commits, metrics) = (Arc::clone(&commits.events), outbox_metrics.clone());
            Poller::new(db.clone(), publisher, clock, commits, metrics)
        });
        if poller.is_none() {
            warn!("KAFKA_BROKERS is not set: events are kept in the outbox");
        }
        let tls = (config.tls).map(|tls| Reloader::new(tls.files, &tls.identity, &mut registry));
        let throttle = config.auth.throttle;
        let policy = Policy::start(&config.passwords)?;
        let grpc_listener = listen("GRPC_ADDR", config.grpc_addr)?;
        let admin_listener = listen("ADMIN_ADDR", config.admin_addr)?;
        // It begins the roll-out, so nothing may fail after it.
        let transition = find_transition(&db, clock.now(), &config.auth).await?;
        let sealing = Sealing {
            keys: Arc::clone(&config.auth.data_keys),
            transition,
            clock: Arc::clone(&clock),
        };
        let admin = Arc::new(Admin {
            db: db.clone(),
            data_keys: Arc::clone(&config.auth.data_keys),
            transition,
            access_token_ttl: config.auth.lifetimes.access_token,
            clock: Arc::clone(&clock),
            commits: commits.clone(),
            import_pace: ImportPace::default(),
        });
        let parts = auth::Parts {
            db: db.clone(),
            hasher: Arc::clone(&hasher),
            policy,
            transition,
            clock: Arc::clone(&clock),
            commits: commits.clone(),
        };
        let auth = Arc::new(Auth::new(config.auth, parts, &mut registry));
        Ok(Self {
            grpc_listener,
            admin_listener,
            limits: Limits::new(config.request_timeout),
            db,
            hasher,
            auth,
            revocations: Revocations::new(&mut registry),
            commits,
            admin,
            throttle,
            sealing,
            seal_metrics: password_seals::Metrics::register(&mut registry),
            internal_callers: config.internal_callers,
            exposure: config.exposure,
            poller,
            tls,
            clock,
            outbox_metrics,
            registry,
        })
    }

    pub fn grpc_addr(&self) -> io::Result<SocketAddr> {
        self.grpc_listener.local_addr()
    }

    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    /// Serves until `stop` is cancelled, then drains. Fails if a task ended by itself.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        info!(grpc = %self.grpc_addr()?, admin = %self.admin_addr()?, "listening");
        let (db, auth) = (self.db.clone(), Arc::clone(&self.auth));
        let health = Monitor::new(db.clone()).await;
        let reporter = health.reporter();
        let mut tasks = Tasks::default();
        let mut admin = self.start(health, &mut tasks);
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            failure = tasks.failed() => Some(failure),
            ended = &mut admin => Some(anyhow!("the admin server ended: {ended:?}")),
        };
        info!("stopping");
        tasks.stop();
        let drained = drain(&mut tasks, reporter, &auth).await;
        db.close().await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        info!("stopped");
        drained
    }

    /// Starts the tasks and the admin server. The admin server is not a task: it answers until
    /// the process ends, so that operators can watch the drain.
    fn start(mut self, health: Monitor, tasks: &mut Tasks) -> AbortOnDropHandle<Infallible> {
        let server = grpc::Server {
            listener: self.grpc_listener,
            tls: self.tls.as_ref().map(Reloader::current),
            handlers: Handlers {
                auth: self.auth,
                admin: self.admin,
                imports: Imports::new(self.limits.import_silence),
                revocations: self.revocations.clone(),
                watches: Watches::new(self.limits.connection_age),
                internal_callers: self.internal_callers,
                plaintext_keys: self.exposure.plaintext_keys,
            },
            reflection: self.exposure.reflection,
            health: health.reporter(),
            metrics: grpc::Metrics::register(&mut self.registry),
            limits: self.limits,
        };
        let (readiness, db) = (health.readiness(), self.db.clone());
        let readiness = move || readiness.borrow().as_result();
        let measure = move || db.count_connections();
        let admin = admin::serve(self.admin_listener, readiness, self.registry, measure);
        tasks.spawn("gRPC server", |stop| server.serve(stop).map(Ok));
        tasks.spawn("health", |stop| health.run(stop));
        if let Some(tls) = self.tls {
            tasks.spawn("certificates", |stop| tls.run(stop));
        }
        if let Some(poller) = self.poller {
            tasks.spawn("outbox", |stop| poller.run(stop).map(Ok));
        }
        let (db, clock) = (self.db.clone(), Arc::clone(&self.clock));
        let (revocations, commits) = (self.revocations, self.commits.revocations);
        tasks.spawn("revocations", |stop| {
            revocations.run(db, clock, commits, stop)
        });
        let (db, clock) = (self.db.clone(), Arc::clone(&self.clock));
        let metrics = self.outbox_metrics;
        tasks.spawn("backlog", |stop| backlog::run(db, clock, metrics, stop));
        let (db, sealing, metrics) = (self.db.clone(), self.sealing, self.seal_metrics);
        tasks.spawn("password seals", |stop| {
            password_seals::run(db, sealing, metrics, stop)
        });
        tasks.spawn("housekeeping", |stop| {
            housekeeping::run(self.db, self.throttle, self.clock, stop)
        });
        tasks.spawn("password threads", |stop| watch(self.hasher, stop));
        AbortOnDropHandle::new(tokio::spawn(admin))
    }
}

async fn find_transition(
    db: &Db,
    now: Timestamp,
    settings: &auth::Settings,
) -> Result<Transition, db::Error> {
    let ends_at = db.transition_ends_at(now).await?;
    let ttl = settings.lifetimes.refresh_token;
    Ok(ends_at.map_or_else(Transition::default, |at| Transition::new(at, ttl)))
}

/// Waits for the tasks to end, for at most [`DRAIN`]: a client may hold a stream open.
async fn drain(tasks: &mut Tasks, reporter: HealthReporter, auth: &Auth) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut ended = pin!(async {
        let ended = tasks.ended().await;
        auth.settled().await;
        ended
    });
    if let Ok(ended) = timeout_at(started + LINGER, &mut ended).await {
        return ended;
    }
    reporter.close_watch_streams();
    let ended = timeout_at(started + DRAIN, ended).await;
    ended.unwrap_or_else(|_| {
        warn!("stopped before all calls had ended");
        Ok(())
    })
}

async fn watch(hasher: Arc<Hasher>, stop: CancellationToken) -> anyhow::Result<()> {
    match stop.run_until_cancelled(hasher.failed()).await {
        Some(()) => bail!("a password thread died"),
        None => Ok(()),
    }
}
