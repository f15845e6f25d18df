//! A cluster of three Postgres that fails over by itself: etcd, and Patroni with the configuration
//! of `deploy/high-availability`.

mod node;

use std::{env, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_postgres::{Config, NoTls};

use self::node::Node;
use super::{
    Authority, TestDatabase,
    postgres_server::{as_postgres, free_port, give_to_postgres},
    skip,
};

/// The time limit for all that the cluster does, on a machine that is busy.
const LONGEST: Duration = Duration::from_mins(3);

/// It is killed when it is dropped.
pub struct PatroniCluster {
    nodes: Vec<Node>,
    _etcd: Child,
    folder: TempDir,
}

impl PatroniCluster {
    /// Starts it, with a role `auth` for the service. `None` without its programs; then the test was
    /// skipped.
    pub async fn start() -> Option<Self> {
        let Some(binaries) = env::var_os("TEST_CLUSTER_POSTGRES_BIN") else {
            skip("no Patroni, etcd or complete Postgres: TEST_CLUSTER_POSTGRES_BIN is not set");
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("auth-patroni-test.")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        give_to_postgres(folder.path());
        copy_postgres(Path::new(&binaries), folder.path()).await;
        let client = free_port();
        let authority = Authority::new();
        let mut cluster = Self {
            nodes: ["db1", "db2", "db3"]
                .map(|name| Node::prepare(folder.path(), name, client, &authority))
                .into(),
            _etcd: start_etcd(folder.path(), client),
            folder,
        };
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.until_whole().await;
        cluster
            .write("CREATE ROLE auth LOGIN PASSWORD 'change-me-service'")
            .await
            .expect("the primary accepts writes");
        Some(cluster)
    }

    /// The URL for a superuser, who connects to whichever node is the primary.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres:change-me-superuser@{}/postgres?target_session_attrs=read-write",
            self.nodes_of_url()
        )
    }

    /// The `DATABASE_URL` of the service.
    pub fn service_url(&self, database: &TestDatabase) -> String {
        let url = database.direct_url();
        let (_, path) = url.rsplit_once('/').expect("a URL with a database");
        let authority = self.folder.path().join("db1/tls/ca.pem");
        format!(
            "postgres://auth:change-me-service@{}/{path}&sslmode=verify-full&sslrootcert={}",
            self.nodes_of_url(),
            authority.display()
        )
    }

    fn nodes_of_url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(Node::addr).collect();
        nodes.join(",")
    }

    /// Kills a node: its Patroni and its Postgres.
    pub async fn kill(&mut self, index: usize) {
        self.nodes[index].kill().await;
    }

    pub fn start_again(&mut self, index: usize) {
        self.nodes[index].start();
    }

    /// Waits until every node runs, and a standby may become the primary. Returns the index of the
    /// primary.
    pub async fn until_whole(&self) -> usize {
        let whole = async {
            loop {
                if let Some(primary) = self.primary_of_all().await {
                    return primary;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(LONGEST, whole)
            .await
            .unwrap_or_else(|_| panic!("a node does not run: {:#?}", self.logs()))
    }

    /// The index of the primary, if every node runs and a standby may become the primary.
    async fn primary_of_all(&self) -> Option<usize> {
        let members = self.members().await?;
        let runs = |member: &Value| {
            let state = member["state"].as_str();
            state.is_some_and(|state| ["running", "streaming"].contains(&state))
        };
        let with_role = |role| members.iter().find(|member| member["role"] == role);
        let (leader, _) = (with_role("leader")?, with_role("sync_standby")?);
        let all = members.len() == self.nodes.len() && members.iter().all(runs);
        let mut nodes = self.nodes.iter();
        nodes.position(|node| all && leader["name"] == node.name)
    }

    /// Waits until a new connection can write, and a standby has what it wrote.
    pub async fn until_writable(&self) {
        let sql = "CREATE TABLE IF NOT EXISTS probe (); INSERT INTO probe DEFAULT VALUES";
        let writable = async {
            // A commit that waits for a standby has no time limit of its own.
            while !matches!(
                timeout(Duration::from_secs(5), self.write(sql)).await,
                Ok(Ok(()))
            ) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONGEST, writable)
            .await
            .unwrap_or_else(|_| panic!("there is no new primary: {:#?}", self.logs()));
    }

    fn logs(&self) -> Vec<Vec<String>> {
        self.nodes.iter().map(Node::log).collect()
    }

    async fn write(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        let config: Config = self.url().parse().expect("a URL");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(sql).await
    }

    /// The nodes, as Patroni sees them. `None` if no node answers.
    async fn members(&self) -> Option<Vec<Value>> {
        for node in &self.nodes {
            if let Some(members) = node.members().await {
                return Some(members);
            }
        }
        None
    }
}

/// The user of Postgres may not read the folder of the downloads.
async fn copy_postgres(binaries: &Path, folder: &Path) {
    let copied = Command::new("cp")
        .args(["-r", "-T"])
        .args([
            binaries.parent().expect("a folder"),
            &folder.join("postgres"),
        ])
        .status()
        .await;
    assert!(copied.expect("cp runs").success());
}

fn start_etcd(folder: &Path, client: u16) -> Child {
    let [client, peer] = [client, free_port()].map(|port| format!("http://127.0.0.1:{port}"));
    as_postgres(Path::new("etcd"), folder)
        .args(["--data-dir", "etcd", "--name", "etcd"])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("etcd={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd runs")
}
