//! A Postgres of the test's own, which the test stops, kills, freezes and replaces by a standby.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;

use super::{Pem, process::send_signal, skip};

/// It is killed when it is dropped.
pub struct PostgresServer {
    folder: TempDir,
    binaries: PathBuf,
    port: u16,
    running: Option<Child>,
}

impl PostgresServer {
    /// `None` without Postgres's binaries; then the test was skipped.
    pub async fn start() -> Option<Self> {
        let Some(binaries) = env::var_os("TEST_POSTGRES_BIN") else {
            skip("no Postgres binaries: TEST_POSTGRES_BIN is not set");
            return None;
        };
        let mut server = Self::prepare(binaries.into());
        let initialised = server
            .command("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(server.data())
            .stdout(Stdio::null())
            .status()
            .await;
        assert!(initialised.expect("initdb runs").success());
        server.start_again().await;
        Some(server)
    }

    fn prepare(binaries: PathBuf) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("auth-postgres-test.")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("ours");
        let server = Self {
            folder,
            binaries,
            port: free_port(),
            running: None,
        };
        fs::create_dir(server.data()).expect("ours");
        fs::set_permissions(server.data(), fs::Permissions::from_mode(0o700)).expect("ours");
        give_to_postgres(&server.data());
        server.folder("sockets");
        server
    }

    /// A new folder for other files of the server, which only the server can read.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).expect("ours");
        give_to_postgres(&folder);
        folder
    }

    /// For `DATABASE_URL`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.addr())
    }

    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of the server's socket.
    pub fn sockets(&self) -> PathBuf {
        self.folder.path().join("sockets")
    }

    /// Restarts the server with more lines in its configuration, and with these rules of
    /// `pg_hba.conf` for every user but `postgres`.
    pub async fn reconfigure(&mut self, settings: &str, access: &str) {
        self.stop().await;
        let write = |name: &str, text: String| {
            fs::write(self.data().join(name), text).expect("ours");
            give_to_postgres(&self.data().join(name));
        };
        write("postgresql.auto.conf", settings.to_owned());
        let ours = "host all postgres all trust\nlocal all all trust";
        write("pg_hba.conf", format!("{ours}\n{access}\n"));
        self.start_again().await;
    }

    /// Settings for [`Self::reconfigure`] that switch TLS on. Clients may present a certificate of
    /// `clients`.
    pub fn tls(&self, server: &Pem, clients: &str) -> String {
        for (name, text) in [
            ("server.crt", server.certificate.as_str()),
            ("server.key", &server.key),
            ("clients.crt", clients),
        ] {
            let file = self.data().join(name);
            fs::write(&file, text).expect("ours");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
            give_to_postgres(&file);
        }
        "ssl = on\nssl_ca_file = 'clients.crt'\n".to_owned()
    }

    /// Starts the stopped server, and waits until it answers.
    pub async fn start_again(&mut self) {
        self.running = Some(self.spawn());
        let answered = async {
            while !self.answers().await {
                sleep(Duration::from_millis(50)).await;
                // The last processes of a killed server may still end.
                let running = self.running.as_mut().expect("it was started");
                if running.try_wait().expect("ours").is_some() {
                    self.running = Some(self.spawn());
                }
            }
        };
        if timeout(Duration::from_mins(1), answered).await.is_err() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            panic!("Postgres does not start: {log:?}");
        }
    }

    fn spawn(&self) -> Child {
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.sockets().display()
            ))
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args([
                "-c",
                "shared_buffers=16MB",
                "-c",
                "wal_receiver_status_interval=1s",
            ])
            .args(["-c", "wal_retrieve_retry_interval=200ms"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.path().join("log")).expect("ours"))
            .kill_on_drop(true)
            .spawn();
        child.expect("postgres runs")
    }

    /// Stops the server in order. Its connections end at once.
    pub async fn stop(&mut self) {
        self.end("INT").await;
    }

    /// Ends the server like a power cut.
    pub async fn kill(&mut self) {
        for pid in self.processes() {
            send_signal(pid, "KILL");
        }
        self.end("KILL").await;
    }

    async fn end(&mut self, name: &str) {
        let mut child = self.running.take().expect("it runs");
        send_signal(child.id().expect("it runs"), name);
        let ended = timeout(Duration::from_mins(1), child.wait()).await;
        ended.expect("Postgres ends").expect("it was ours");
    }

    /// Stops all processes of the server. Connections stay open, the kernel accepts new ones, and
    /// nothing answers.
    pub fn freeze(&self) {
        for pid in self.processes() {
            send_signal(pid, "STOP");
        }
    }

    /// Stops only the processes behind the service's connections that are open now.
    pub async fn freeze_connections(&self) {
        let sql = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity \
                   WHERE application_name = 'auth-service'";
        for pid in self.ask(sql).await.split(' ') {
            send_signal(pid.parse().expect("a number"), "STOP");
        }
    }

    /// Continues the frozen processes.
    pub fn thaw(&self) {
        for pid in self.processes() {
            send_signal(pid, "CONT");
        }
    }

    /// A synchronous standby: it has all that was committed here, and each commit waits for it.
    pub async fn standby(&mut self) -> Self {
        self.stop().await;
        let mut standby = Self::prepare(self.binaries.clone());
        let copied = Command::new("cp")
            .args(["-a", "-T"])
            .args([self.data(), standby.data()])
            .status()
            .await;
        assert!(copied.expect("cp runs").success());
        fs::write(standby.data().join("standby.signal"), "").expect("ours");
        let follow = format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'\n",
            self.port
        );
        fs::write(standby.data().join("postgresql.auto.conf"), follow).expect("ours");
        let wait = "synchronous_standby_names = '*'\n";
        fs::write(self.data().join("postgresql.auto.conf"), wait).expect("ours");
        tokio::join!(self.start_again(), standby.start_again());
        standby
    }

    /// Makes this standby the primary.
    pub async fn promote(&self) {
        assert_eq!(self.ask("SELECT pg_promote()::text").await, "true");
    }

    /// The text that a query returns.
    pub async fn ask(&self, sql: &str) -> String {
        let config: tokio_postgres::Config = self.url().parse().expect("a URL");
        let (client, connection) = config.connect(NoTls).await.expect("Postgres answers");
        tokio::spawn(connection);
        let row = client.query_one(sql, &[]).await.expect("the query runs");
        row.get(0)
    }

    async fn answers(&self) -> bool {
        let mut config: tokio_postgres::Config = self.url().parse().expect("a URL");
        match config
            .connect_timeout(Duration::from_secs(1))
            .connect(NoTls)
            .await
        {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                client.simple_query("SELECT 1").await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<u32> {
        let Some(postmaster) = self.running.as_ref().and_then(Child::id) else {
            return Vec::new();
        };
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let children = children
            .split_whitespace()
            .map(|pid| pid.parse().expect("a number"));
        [postmaster].into_iter().chain(children).collect()
    }

    /// The content of each file.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let (mut folders, mut files) = (vec![self.data()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("ours") {
                let path = entry.expect("ours").path();
                // A temporary file may have gone.
                match fs::read(&path) {
                    _ if path.is_dir() => folders.push(path),
                    Ok(bytes) => files.push((path.display().to_string(), bytes)),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}", path.display());
                    }
                }
            }
        }
        files
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        as_postgres(&self.binaries.join(program), self.folder.path())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        for pid in self.processes() {
            send_signal(pid, "KILL");
        }
    }
}

/// A command that ends with the test. Postgres and PgBouncer refuse to run as root, so root runs
/// them as `nobody`.
pub(super) fn as_postgres(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some((user, group)) = nobody() {
        let (user, group) = (user.to_string(), group.to_string());
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command
        .arg(program)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// Gives a file or folder to `nobody`, if the server runs as that user.
pub(super) fn give_to_postgres(path: &Path) {
    if let Some((user, group)) = nobody() {
        chown(path, Some(user), Some(group)).expect("we are root");
    }
}

/// User and group of `nobody`, if this process is root.
fn nobody() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| -> u32 {
        let output = std::process::Command::new("id").args(arguments).output();
        let text = String::from_utf8(output.expect("id runs").stdout).expect("ASCII");
        text.trim().parse().expect("a number")
    };
    (number(&["-u"]) == 0).then(|| (number(&["-u", "nobody"]), number(&["-g", "nobody"])))
}

/// A free port, below those that the kernel gives to connections, so it stays free while a server
/// is down. `tests/run` uses higher ports.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 3000).expect("small");
    loop {
        let port = 12_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 4000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
