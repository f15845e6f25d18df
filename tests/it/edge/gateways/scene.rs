//! The service, the edge, a gateway and the application, and how they end and start again.

use std::{
    fs::{self, DirEntry},
    io,
    net::SocketAddr,
};

use auth_service::proto::auth_service_client::AuthServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{Gateway, Running, application::Application};
use crate::harness::{
    Backend, GATEWAY, INTERNAL_TOKEN, Process, TestDatabase, connect, eventually, probe, settings,
};

const ANY_PORT: &str = "127.0.0.1:0";

pub struct Scene {
    pub application: Application,
    pub gateway: Running,
    kind: Gateway,
    database: TestDatabase,
    folder: TempDir,
    service: Process,
    service_addr: SocketAddr,
    edge: Process,
    edge_addr: SocketAddr,
}

impl Scene {
    /// `None` without this gateway; then the test was skipped.
    pub async fn start(kind: Gateway) -> Option<Self> {
        let database = TestDatabase::create(Backend::Sqlite).await?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let service = Process::serve(&database, &GATEWAY);
        let service_addr = service.grpc_addr().await;
        let edge = start_edge(&folder, service_addr, ANY_PORT);
        let edge_addr = address(&edge, "edge").await;
        let application = Application::start().await;
        let gateway = kind.start(edge_addr, application.addr).await?;
        let scene = Self {
            application,
            gateway,
            kind,
            database,
            folder,
            service,
            service_addr,
            edge,
            edge_addr,
        };
        scene.wait_for_edge().await;
        Some(scene)
    }

    /// Replaces the gateway by one that reaches the edge at this address.
    pub async fn move_edge(&mut self, edge: SocketAddr) {
        let gateway = self.kind.start(edge, self.application.addr).await;
        self.gateway = gateway.expect("it has started before");
    }

    pub fn edge_addr(&self) -> SocketAddr {
        self.edge_addr
    }

    pub async fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(connect(self.service_addr).await)
    }

    /// Runs a command of an operator.
    pub async fn operate(&self, arguments: &[&str]) {
        let url = self.database.url();
        let ended = Process::run(self.folder.path(), arguments, &settings(&url, &[])).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Stops the service in order.
    pub async fn stop_service(&mut self) {
        self.service.signal("TERM");
        assert_eq!(self.service.exit_code().await, Some(0));
    }

    pub async fn kill_service(&mut self) {
        self.service.signal("KILL");
        self.service.killed_by().await;
    }

    /// Starts the service again, with these keys, and waits until it serves.
    pub async fn start_service(&mut self, keys: &[(&str, &str)]) {
        let addr = self.service_addr.to_string();
        let more = [&GATEWAY[..], &[("GRPC_ADDR", &addr)], keys].concat();
        self.service = Process::serve(&self.database, &more);
        self.service.grpc_addr().await;
    }

    pub async fn kill_edge(&mut self) {
        self.edge.signal("KILL");
        self.edge.killed_by().await;
    }

    /// Starts the edge again. It serves then, but may not know the revocations yet.
    pub async fn start_edge(&mut self) {
        let addr = self.edge_addr.to_string();
        self.edge = start_edge(&self.folder, self.service_addr, &addr);
        address(&self.edge, "edge").await;
    }

    /// Stops the edge's threads, but not its connections.
    pub async fn freeze_edge(&self) {
        self.edge.signal("STOP");
        let tasks = format!("/proc/{}/task", self.edge.pid());
        let stopped = |task: io::Result<DirEntry>| {
            let status = fs::read_to_string(task.expect("it runs").path().join("status"));
            status.expect("it runs").contains("\nState:\tT")
        };
        eventually(async || fs::read_dir(&tasks).expect("it runs").all(stopped)).await;
    }

    pub fn thaw_edge(&self) {
        self.edge.signal("CONT");
    }

    /// Waits until the edge knows all revocations.
    pub async fn wait_for_edge(&self) {
        eventually(async || self.probe_edge("/readyz").await.0 == 200).await;
    }

    /// When the edge got its last message from the service.
    pub async fn last_message(&self) -> String {
        let (_, metrics) = self.probe_edge("/metrics").await;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("auth_edge_last_message_timestamp_seconds"));
        line.expect("a metric").to_owned()
    }

    async fn probe_edge(&self, path: &str) -> (u16, String) {
        probe(address(&self.edge, "admin").await, path).await
    }
}

fn start_edge(folder: &TempDir, service: SocketAddr, addr: &str) -> Process {
    let url = format!("http://{service}");
    let variables = [
        ("AUTH_URL", url.as_str()),
        ("AUTH_TOKEN", INTERNAL_TOKEN),
        ("EDGE_ADDR", addr),
        ("ADMIN_ADDR", ANY_PORT),
    ];
    Process::start(folder.path(), &["edge"], &variables)
}

/// An address that the process logs when it listens.
async fn address(process: &Process, name: &str) -> SocketAddr {
    let line = process.wait_for("\"listening\"").await;
    let (_, rest) = line
        .split_once(&format!("\"{name}\":\""))
        .expect("the address");
    let (addr, _) = rest.split_once('"').expect("JSON");
    addr.parse().expect("an address")
}
