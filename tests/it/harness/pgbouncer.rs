//! PgBouncer between the service and Postgres.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::Child,
    time::{sleep, timeout},
};

use super::{
    TestDatabase,
    postgres_server::{as_postgres, free_port, give_to_postgres},
    process::send_signal,
};

/// It is killed when it is dropped.
pub struct PgBouncer {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl PgBouncer {
    /// The pool modes in which the installed PgBouncer can serve the service: transaction mode
    /// needs a version that knows prepared statements. None without PgBouncer; then the test was
    /// skipped.
    pub fn modes() -> Vec<&'static str> {
        let Ok(output) = Command::new("pgbouncer").arg("--version").output() else {
            super::skip("no PgBouncer: no `pgbouncer` in PATH");
            return Vec::new();
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(1).expect("PgBouncer 1.x.y");
        let minor = version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse().ok());
        if minor.is_some_and(|minor: u32| minor >= 21) {
            return vec!["session", "transaction"];
        }
        eprintln!(
            "not tested: transaction mode, for PgBouncer {version} knows no prepared statements"
        );
        vec!["session"]
    }

    /// Starts it in front of the server of `database`, with a limit of connections to that server.
    pub async fn start(database: &TestDatabase, connections: u32, mode: &str) -> Self {
        let folder = tempfile::Builder::new()
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        give_to_postgres(folder.path());
        let url: tokio_postgres::Config = database.direct_url().parse().expect("a URL");
        let mut bouncer = Self {
            folder,
            port: free_port(),
            running: None,
        };
        let server = url.get_ports()[0];
        let prepared = match mode {
            "transaction" => "max_prepared_statements = 200\n",
            _ => "",
        };
        let config = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={server} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nmax_client_conn = 200\n\
             {prepared}\
             default_pool_size = {connections}\nserver_login_retry = 1\n",
            bouncer.port
        );
        fs::write(bouncer.config(), config).expect("ours");
        bouncer.start_again().await;
        bouncer
    }

    /// The URL of the database through this PgBouncer.
    pub fn url(&self, database: &TestDatabase) -> String {
        let url = database.url();
        let (_, name) = url.rsplit_once('/').expect("a URL with a database");
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// All its connections end as well.
    pub async fn kill(&mut self) {
        let mut child = self.running.take().expect("it runs");
        send_signal(child.id().expect("it runs"), "KILL");
        child.wait().await.expect("it was ours");
    }

    pub async fn start_again(&mut self) {
        let child = as_postgres(Path::new("pgbouncer"), self.folder.path())
            .arg("-q")
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.running = Some(child.expect("pgbouncer runs"));
        let accepts = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), accepts)
            .await
            .expect("PgBouncer starts");
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("pgbouncer.ini")
    }
}
