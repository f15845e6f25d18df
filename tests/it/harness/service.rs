//! The service inside the test process.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use auth_service::{
    app::App,
    config::{Args, Config},
    model::Timestamp,
    proto::auth_service_client::AuthServiceClient,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    Backend, GATEWAY, ManualClock, NO_THROTTLE, OnBackend, TestDatabase,
    settings::{option, settings},
};

/// Where the manual clock starts: 2026-11-24T12:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);

/// The service in this process, stopped when it is dropped.
pub struct Service {
    /// Its database.
    pub database: TestDatabase,
    /// Its clock, which stands still until the test moves it.
    pub clock: Arc<ManualClock>,
    /// Where gRPC is served.
    pub addr: SocketAddr,
    /// Where the probes are answered.
    pub admin_addr: SocketAddr,
    channel: Option<Channel>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    /// Starts the service on a database, with further command line options (they win over
    /// the harness's own).
    pub async fn start(database: TestDatabase, options: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        Self::start_at(database, clock, options).await
    }

    /// The same, with a clock that another replica may share.
    pub async fn start_at(
        database: TestDatabase,
        clock: Arc<ManualClock>,
        options: &[&str],
    ) -> Self {
        let app = build(&database, Arc::clone(&clock), options).await;
        Self::run(app.expect("the service starts"), database, clock).await
    }

    /// The same, but how to connect is the test's affair.
    pub async fn start_unconnected(database: TestDatabase, options: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let app = build(&database, Arc::clone(&clock), options).await;
        Self::spawn(app.expect("the service starts"), database, clock)
    }

    /// Runs an app that was built on this database and clock.
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

    /// A client on the service's one test connection.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel())
    }

    /// The connection, for other services' clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone().expect("it was connected")
    }

    /// Stops the service in order and returns how it ended, and its database.
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

/// Builds an app as [`Service::start`] does.
pub async fn build(
    database: &TestDatabase,
    clock: Arc<ManualClock>,
    options: &[&str],
) -> anyhow::Result<App> {
    App::build(config(database, options), clock).await
}

/// The configuration of [`Service::start`].
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

/// A connection to a server on this machine.
pub async fn connect(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}"))
        .expect("a valid address")
        .connect_timeout(Duration::from_secs(10))
        .connect()
        .await
        .expect("the server accepts")
}
