//! The service inside the test process.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use auth_service::{
    app::App,
    config::{Args, Config},
    db::Db,
    model::Timestamp,
    proto::auth_service_client::AuthServiceClient,
};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{
    Backend, GATEWAY, ManualClock, NO_THROTTLE, OnBackend, TestDatabase,
    settings::{option, settings},
};

/// The manual clock starts here: 2026-11-24T12:00:00Z. The clock of the database is days later:
/// it is the second opinion about sessions that have expired.
pub const START: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);

/// The service inside this process. It stops when it is dropped.
pub struct Service {
    pub database: TestDatabase,
    pub clock: Arc<ManualClock>,
    /// The gRPC address.
    pub addr: SocketAddr,
    /// The address of probes and metrics.
    pub admin_addr: SocketAddr,
    channel: Option<Channel>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    /// Starts the service with further command line options. They replace those of the harness.
    pub async fn start(database: TestDatabase, options: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        Self::start_at(database, clock, options).await
    }

    /// Like `start`, with a clock that another replica may share.
    pub async fn start_at(
        database: TestDatabase,
        clock: Arc<ManualClock>,
        options: &[&str],
    ) -> Self {
        let app = build(&database, Arc::clone(&clock), options).await;
        Self::run(app.expect("the service starts"), database, clock).await
    }

    /// Like `start`, for a test that connects by itself.
    pub async fn start_unconnected(database: TestDatabase, options: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let app = build(&database, Arc::clone(&clock), options).await;
        Self::spawn(app.expect("the service starts"), database, clock)
    }

    /// Runs an app that [`build`] made with this database and clock.
    pub async fn run(app: App, database: TestDatabase, clock: Arc<ManualClock>) -> Self {
        let mut service = Self::spawn(app, database, clock);
        service.channel = Some(connect(service.addr).await);
        service
    }

    fn spawn(app: App, database: TestDatabase, clock: Arc<ManualClock>) -> Self {
        let (addr, admin_addr) = (app.grpc_addr().unwrap(), app.admin_addr().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        Self {
            database,
            clock,
            addr,
            admin_addr,
            channel: None,
            stop,
            running,
        }
    }

    /// A client on the connection of this service, which all clients share.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel())
    }

    /// That connection, for clients of other gRPC services.
    pub fn channel(&self) -> Channel {
        self.channel.clone().expect("it was connected")
    }

    /// Stops the service in order. Returns its result and its database.
    pub async fn stop(mut self) -> (anyhow::Result<()>, TestDatabase) {
        self.stop.cancel();
        let ended = (&mut self.running)
            .await
            .expect("the service does not panic");
        let database = self.database.clone();
        (ended, database)
    }
}

impl OnBackend for Service {
    async fn on(backend: Backend) -> Option<Self> {
        Some(Self::start(TestDatabase::create(backend).await?, &[]).await)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Builds the app of [`Service::start`].
pub async fn build(
    database: &TestDatabase,
    clock: Arc<ManualClock>,
    options: &[&str],
) -> anyhow::Result<App> {
    App::build(config(database, options), clock).await
}

/// The configuration of [`Service::start`]: [`settings`], [`GATEWAY`] and [`NO_THROTTLE`].
pub fn config(database: &TestDatabase, options: &[&str]) -> Config {
    let url = database.url();
    let more = [&GATEWAY[..], &NO_THROTTLE].concat();
    let mut argv = vec!["auth-service".to_owned()];
    for (variable, value) in settings(&url, &more) {
        let option = option(variable);
        // An option that is given twice would be wrong usage.
        if !options.contains(&option.as_str()) {
            argv.extend([option, value.to_owned()]);
        }
    }
    argv.extend(options.iter().map(ToString::to_string));
    let parsed = Args::from_argv(argv.into_iter().map(Into::into)).expect("valid usage");
    Config::load(&parsed, Path::new("")).unwrap_or_else(|problems| {
        panic!(
            "{:?}",
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        )
    })
}

pub async fn connect(addr: SocketAddr) -> Channel {
    connected(endpoint(addr)).await
}

/// A connection that takes no body of any answer.
pub async fn connect_without_window(addr: SocketAddr) -> Channel {
    connected(endpoint(addr).initial_stream_window_size(0)).await
}

fn endpoint(addr: SocketAddr) -> Endpoint {
    let endpoint = Channel::from_shared(format!("http://{addr}"));
    let endpoint = endpoint.expect("a valid address");
    endpoint.connect_timeout(Duration::from_secs(10))
}

async fn connected(endpoint: Endpoint) -> Channel {
    endpoint.connect().await.expect("the server accepts")
}

/// The storage layer of the service on this database.
pub fn db(database: &TestDatabase, timeout: Duration) -> Db {
    let config = config(database, &[]);
    Db::new(&config.database, timeout, &mut Registry::default())
}
