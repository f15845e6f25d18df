//! The sidecar inside the test process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_service::{
    app,
    config::{self, Args},
    edge::Settings,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Envoy, Http, Verdict};
use crate::harness::{INTERNAL_TOKEN, ManualClock, START, eventually, probe};

/// It stops when it is dropped.
pub struct Sidecar {
    pub addr: SocketAddr,
    pub admin_addr: SocketAddr,
    pub clock: Arc<ManualClock>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Sidecar {
    /// Follows the service at these addresses.
    pub fn start(services: &[SocketAddr], options: &[&str]) -> Self {
        Self::start_with(services, options, |_| {})
    }

    /// Like `start`, with settings that no variable allows.
    pub fn start_with(
        services: &[SocketAddr],
        options: &[&str],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let urls: Vec<_> = services
            .iter()
            .map(|addr| format!("http://{addr}"))
            .collect();
        let base = [
            "--auth-url",
            &urls.join(","),
            "--auth-token",
            INTERNAL_TOKEN,
        ];
        let mut config = config(&[&base, options].concat());
        change(&mut config.settings);
        Self::run(build(config))
    }

    /// Not running yet, so that a test can change its limits.
    pub fn build(options: &[&str]) -> (app::Sidecar, Arc<ManualClock>) {
        build(config(options))
    }

    pub fn run((sidecar, clock): (app::Sidecar, Arc<ManualClock>)) -> Self {
        let stop = CancellationToken::new();
        Self {
            addr: sidecar.edge_addr().unwrap(),
            admin_addr: sidecar.admin_addr().unwrap(),
            clock,
            running: tokio::spawn(sidecar.run(stop.clone())),
            stop,
        }
    }

    /// The answers to these values of `Authorization`, which must be the same by all protocols.
    pub async fn check(&self, authorization: &[&str]) -> Verdict {
        let by_http = Http::open(self.addr).await.check(authorization).await;
        let by_envoy = Envoy::connect(self.addr).await.check(authorization).await;
        assert_eq!(by_http, by_envoy);
        by_http
    }

    pub async fn check_token(&self, token: &str) -> Verdict {
        self.check(&[&format!("Bearer {token}")]).await
    }

    pub async fn status(&self, token: &str) -> u16 {
        self.check_token(token).await.status
    }

    /// Waits until the answer to this token has this status.
    pub async fn wait_for(&self, token: &str, status: u16) {
        let bearer = format!("Bearer {token}");
        let mut http = Http::open(self.addr).await;
        eventually(async || http.check(&[&bearer]).await.status == status).await;
    }

    /// Status and body of an answer of the admin port.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        probe(self.admin_addr, path).await
    }

    pub async fn wait_until_ready(&self) {
        eventually(async || self.probe("/readyz").await.0 == 200).await;
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.probe("/metrics").await;
        let prefix = format!("{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .expect("a whole number")
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        (&mut self.running).await.expect("it does not panic")
    }
}

fn config(options: &[&str]) -> config::Edge {
    let free_ports = ["--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let command = [&["auth-service", "edge"], &free_ports[..], options].concat();
    let args = Args::from_argv(command.into_iter().map(Into::into)).expect("valid usage");
    config::edge(&args).unwrap_or_else(|problems| {
        let problems = problems.iter().map(ToString::to_string);
        panic!("{:?}", problems.collect::<Vec<_>>())
    })
}

fn build(config: config::Edge) -> (app::Sidecar, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    let sidecar = app::Sidecar::build(config, clock.clone());
    (sidecar.expect("free ports"), clock)
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Time-outs for tests that wait for them.
pub const SHORT: Duration = Duration::from_millis(300);
