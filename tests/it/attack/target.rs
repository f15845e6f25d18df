//! The process that the tests attack, and a client that must be served meanwhile.

use std::{error::Error as _, fs, net::SocketAddr, sync::Arc, time::Duration};

use auth_service::{
    grpc::Limits,
    proto::{self, auth_service_client::AuthServiceClient},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::encrypted::Encrypted;
use crate::harness::{
    Backend, GATEWAY, ManualClock, Process, START, Service, TestDatabase, build, connect, login,
    refresh, register,
};

/// For an answer, on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_mins(1);

/// The service in this process, on SQLite, with other limits.
pub async fn start(options: &[&str], change: impl FnOnce(&mut Limits)) -> Service {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let database = database.expect("SQLite is always there");
    let clock = Arc::new(ManualClock::new(START));
    let app = build(&database, Arc::clone(&clock), options).await;
    let mut app = app.expect("the service starts");
    change(&mut app.limits);
    Service::run(app, database, clock).await
}

/// The attacked service.
pub struct Target {
    pub process: Process,
    pub addr: SocketAddr,
    _database: TestDatabase,
}

impl Target {
    pub async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    async fn start_with(database: TestDatabase, more: &[(&str, &str)]) -> Self {
        let variables = [&GATEWAY[..], &[("LOG", "debug")], more].concat();
        let process = Process::serve(&database, &variables);
        let addr = process.grpc_addr().await;
        Self {
            process,
            addr,
            _database: database,
        }
    }

    pub async fn on_sqlite() -> Self {
        Self::with(&[]).await
    }

    /// On SQLite, with more settings.
    pub async fn with(more: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create(Backend::Sqlite).await;
        Self::start_with(database.expect("SQLite is always there"), more).await
    }

    /// A number of `/proc/<pid>/status`, in KiB.
    pub fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with(what));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a number").parse().expect("a number")
    }

    /// How many times its threads went to sleep because they had nothing to do.
    pub fn voluntary_switches(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.pid()));
        let switches = threads.expect("it runs").map(|thread| {
            let status = thread.expect("a thread").path().join("status");
            let status = fs::read_to_string(status).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.map_or(0, |number| number.trim().parse().expect("a number"))
        });
        switches.sum()
    }

    /// No panic and no error is in the log.
    pub fn assert_unharmed(&self) {
        let log = self.process.log();
        let harm = log
            .iter()
            .filter(|line| line.contains("panicked") || line.contains("\"ERROR\""));
        let harm: Vec<_> = harm.collect();
        assert!(harm.is_empty(), "{harm:#?}");
    }
}

/// A client that does no harm. Its connection is open before the attack begins.
pub struct OtherClient {
    client: AuthServiceClient<Channel>,
    token: String,
    encrypted: Option<Arc<Encrypted>>,
}

impl OtherClient {
    pub async fn register(addr: SocketAddr) -> Self {
        Self::register_over(None, addr).await
    }

    pub async fn register_over(encrypted: Option<Arc<Encrypted>>, addr: SocketAddr) -> Self {
        let mut client = new_client(encrypted.as_deref(), addr).await;
        let request = proto::RegisterRequest {
            start_session: true,
            ..register("other@example.com")
        };
        let answer = client.register(request).await.expect("registers");
        let tokens = answer.into_inner().tokens.expect("tokens");
        Self {
            client,
            token: tokens.refresh_token,
            encrypted,
        }
    }

    /// Refreshes on the old connection, and logs in on a new one.
    pub async fn assert_served(&mut self, addr: SocketAddr, meanwhile: &str) {
        let served = async {
            for _ in 0..5 {
                self.refreshes(meanwhile).await;
            }
            let client = new_client(self.encrypted.as_deref(), addr).await;
            let answer =
                until_answered(async || client.clone().login(login("other@example.com")).await);
            answer
                .await
                .unwrap_or_else(|status| panic!("{meanwhile}: {status}"));
        };
        let served = timeout(LIMIT, served).await;
        assert!(served.is_ok(), "{meanwhile}: no other client is served");
    }

    pub async fn refreshes(&mut self, meanwhile: &str) {
        let answer =
            until_answered(async || self.client.clone().refresh(refresh(&self.token)).await);
        let answer = answer.await;
        let tokens = answer.unwrap_or_else(|status| panic!("{meanwhile}: {status}"));
        self.token = tokens.into_inner().tokens.expect("tokens").refresh_token;
    }
}

async fn new_client(encrypted: Option<&Encrypted>, addr: SocketAddr) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(match encrypted {
        Some(encrypted) => encrypted.channel(addr).await,
        None => connect(addr).await,
    })
}

/// Tries again while the answer asks for it: on a busy machine the database, the password hasher
/// or the whole process may miss its deadline.
async fn until_answered<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    loop {
        match call().await {
            Err(status) if may_be_retried(&status) => {
                sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

/// At the connection limit the connection that is idle the longest is closed. A call that begins
/// at that moment fails without an answer.
fn may_be_retried(status: &Status) -> bool {
    let is_closed = status.code() == Code::Unknown && status.source().is_some();
    is_closed
        || status.code() == Code::DeadlineExceeded
        || status.get_details_retry_info().is_some()
}

/// Drives a connection until it is dropped.
pub struct Driver(pub JoinHandle<Result<(), h2::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
