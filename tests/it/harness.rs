//! Starts the service as a test needs it: in this process with a clock that the test
//! moves, or as a process of its own.

mod bare;
mod chance;
mod clock;
mod database;
mod frames;
mod guarantee;
mod kafka;
mod kafka_server;
mod pgbouncer;
mod pki;
mod postgres_server;
mod probes;
mod process;
mod process_memory;
mod proxy;
mod raw;
mod rows;
mod sessions;
mod wire;

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use auth_service::{
    app::App,
    config::{Args, Config},
    model::Timestamp,
    proto::{self, auth_service_client::AuthServiceClient},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

pub use self::{
    bare::BareConnection,
    chance::{Chance, soak},
    clock::ManualClock,
    database::{Backend, TestDatabase},
    frames::{DATA, Frames, PREFACE, call_but_its_end, cancelled_call, end_of_call, frame},
    guarantee::{Copy, Published},
    kafka::{Kafka, Record},
    kafka_server::Cluster,
    pgbouncer::PgBouncer,
    pki::{Authority, Pem},
    postgres_server::PostgresServer,
    process::{Process, without_capabilities},
    process_memory::{Needles, memory_of},
    proxy::{Proxy, Trap},
    raw::{Answer, RawConnection, framed},
    rows::{bytes_of, hex_of},
    sessions::{
        Account, Session, TokenParts, account, change_password, crc32, delete_account, end_session,
        malformed_tokens,
    },
    wire::Statements,
};

/// A password that the policy accepts.
pub const PASSWORD: &str = "correct horse battery staple";
/// The token of the internal caller `gateway`.
pub const INTERNAL_TOKEN: &str = "an-internal-token-of-32-characters";
/// The secret that signs.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-32-bytes-long";

/// Where the manual clock starts: 2026-11-24T12:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);

/// Defines a test that runs on SQLite and on Postgres. Its argument is a [`Service`]
/// started with the default options, a [`TestDatabase`], or whatever else is
/// [`OnBackend`].
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($arg:ident: $type:ty) $body:block)+) => {$(
        mod $name {
            #[allow(clippy::allow_attributes, unused_imports, reason = "not every test needs all")]
            use super::*;

            $(#[$meta])*
            async fn test($arg: $type) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                use crate::harness::{Backend, OnBackend};
                if let Some(fixture) = <$type as OnBackend>::on(Backend::Sqlite).await {
                    test(fixture).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                use crate::harness::{Backend, OnBackend};
                if let Some(fixture) = <$type as OnBackend>::on(Backend::Postgres).await {
                    test(fixture).await;
                }
            }
        }
    )+};
}
pub(crate) use both;

/// What a test on both databases can ask for.
pub trait OnBackend: Sized {
    /// `None` if the backend is not at hand, which has been said aloud.
    async fn on(backend: Backend) -> Option<Self>;
}

impl OnBackend for TestDatabase {
    async fn on(backend: Backend) -> Option<Self> {
        Self::create(backend).await
    }
}

impl OnBackend for Service {
    async fn on(backend: Backend) -> Option<Self> {
        Some(Self::start(TestDatabase::create(backend).await?, &[]).await)
    }
}

/// Says aloud that a test is skipped, which in CI is a failure.
pub fn skip(missing: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{missing}, and in CI no test is skipped"
    );
    // Not `eprintln!`, which the test runner swallows when a test passes.
    writeln!(std::io::stderr(), "SKIPPED: {missing}; tests/run starts it").expect("stderr");
}

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

/// A test that is not about the throttle may fail as often as it likes.
const NO_THROTTLE: [(&str, &str); 4] = [
    ("--throttle-free-per-pair", "1000000"),
    ("--throttle-free-per-account", "1000000"),
    ("--throttle-free-per-address", "1000000"),
    ("--throttle-daily-per-account", "1000000"),
];

/// The configuration of [`Service::start`].
pub fn config(database: &TestDatabase, options: &[&str]) -> Config {
    let url = database.url();
    let internal_tokens = format!("gateway:{INTERNAL_TOKEN}");
    let defaults = [
        ("--database-url", url.as_str()),
        ("--grpc-addr", "127.0.0.1:0"),
        ("--admin-addr", "127.0.0.1:0"),
        ("--jwt-secret", JWT_SECRET),
        ("--internal-tokens", &internal_tokens),
        ("--bcrypt-cost", "10"),
        ("--password-max-wait", "9s"),
    ];
    let defaults = defaults.into_iter().chain(NO_THROTTLE);
    let mut argv = vec!["auth-service"];
    for (option, value) in defaults {
        if !options.contains(&option) {
            argv.extend([option, value]);
        }
    }
    argv.extend(options);
    let parsed = Args::from_argv(argv.iter().map(Into::into)).expect("valid usage");
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

/// A registration with the tests' password and without a session.
pub fn register(email: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    }
}

/// A login with the tests' password.
pub fn login(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    }
}

/// A refresh token in its request.
pub fn refresh(token: &str) -> proto::RefreshRequest {
    proto::RefreshRequest {
        refresh_token: token.to_owned(),
    }
}

/// A refresh token in its request.
pub fn logout(token: &str) -> proto::LogoutRequest {
    proto::LogoutRequest {
        refresh_token: token.to_owned(),
    }
}

/// The error of a call that must fail. (Our messages have no `Debug`.)
pub fn refused<T>(answer: Result<T, Status>) -> Status {
    match answer {
        Ok(_) => panic!("the call must be refused"),
        Err(status) => status,
    }
}

/// Code and reason of an error, once it is known to come from the service.
pub fn reason(status: &Status) -> (Code, String) {
    let info = status
        .get_details_error_info()
        .expect("every error has ErrorInfo");
    assert_eq!(info.domain, "auth.realchat");
    (status.code(), info.reason)
}

/// Code, reason and text of an error from the service: what a client can see at a glance.
pub fn told(status: &Status) -> String {
    let (code, reason) = reason(status);
    format!("{code:?} {reason}: {}", status.message())
}

/// The one field that a request got wrong, and what is wrong with it.
pub fn violation(status: &Status) -> (String, String) {
    assert_eq!(
        reason(status),
        (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned())
    );
    let bad_request = status.get_details_bad_request().expect("a BadRequest");
    let [violation] = &bad_request.field_violations[..] else {
        panic!("{bad_request:?}")
    };
    (violation.field.clone(), violation.description.clone())
}

/// When the service wants to be asked again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}
