//! One node: Patroni, and the Postgres that it starts, in a process namespace of their own. A kill
//! ends both at the same moment, as when a machine dies.

use std::{
    fs::{self, File, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use rustix::process::geteuid;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::harness::{
    Authority,
    postgres_server::{as_postgres, free_port, give_to_postgres},
    probes::try_probe,
    process::send_signal,
};

/// The file that operators copy.
const CONFIGURATION: &str = include_str!("../../../../deploy/high-availability/patroni.yaml");

pub struct Node {
    pub name: &'static str,
    home: PathBuf,
    port: u16,
    api: u16,
    running: Option<Child>,
}

impl Node {
    /// Writes its files to `folder`.
    pub fn prepare(folder: &Path, name: &'static str, etcd: u16, authority: &Authority) -> Self {
        let node = Self {
            name,
            home: folder.join(name),
            port: free_port(),
            api: free_port(),
            running: None,
        };
        for folder in ["", "tls", "sockets"] {
            fs::create_dir(node.home.join(folder)).expect("ours");
            node.hand_over(folder, 0o700);
        }
        let pem = authority.sign(&["127.0.0.1"]);
        for (name, text) in [
            ("tls/ca.pem", authority.pem()),
            ("tls/server.pem", pem.certificate),
            ("tls/server.key", pem.key),
            ("patroni.yaml", node.configuration(folder, etcd)),
        ] {
            fs::write(node.home.join(name), text).expect("ours");
            node.hand_over(name, 0o600);
        }
        node
    }

    fn hand_over(&self, name: &str, mode: u32) {
        let path = self.home.join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        give_to_postgres(&path);
    }

    /// The file with the addresses and folders of this test, and with shorter time limits.
    fn configuration(&self, folder: &Path, etcd: u16) -> String {
        let home = self.home.display();
        let changes = [
            ("name: db1", format!("name: {}", self.name)),
            (
                "10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379",
                format!("127.0.0.1:{etcd}"),
            ),
            ("10.0.0.11:8008", format!("127.0.0.1:{}", self.api)),
            ("10.0.0.11,127.0.0.1:5432", self.addr()),
            ("10.0.0.11:5432", self.addr()),
            ("10.0.0.0/16", "127.0.0.1/32".to_owned()),
            ("10.0.0.0/24", "127.0.0.1/32".to_owned()),
            (
                "/usr/lib/postgresql/17",
                folder.join("postgres").display().to_string(),
            ),
            ("/var/lib/postgresql/17/auth", format!("{home}/data")),
            ("/var/lib/postgresql/pgpass", format!("{home}/pgpass")),
            ("/var/run/postgresql", format!("{home}/sockets")),
            ("/etc/postgresql/tls", format!("{home}/tls")),
            ("ttl: 30", "ttl: 20".to_owned()),
            ("loop_wait: 10", "loop_wait: 1".to_owned()),
            ("retry_timeout: 10", "retry_timeout: 9".to_owned()),
            ("mode: required", "mode: off".to_owned()),
        ];
        changes
            .iter()
            .fold(CONFIGURATION.to_owned(), |text, (from, to)| {
                assert!(text.contains(from), "patroni.yaml has {from}");
                text.replace(from, to)
            })
    }

    /// Host and port of its Postgres.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        let patroni = as_postgres(Path::new("patroni"), &self.home);
        let patroni = patroni.as_std();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file());
        let log = log.expect("ours");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        if !geteuid().is_root() {
            command.args(["--user", "--map-current-user"]);
        }
        let child = command
            .arg(patroni.get_program())
            .args(patroni.get_args())
            .arg("patroni.yaml")
            .current_dir(&self.home)
            // libpq would look for a certificate there.
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.running = Some(child.expect("patroni runs"));
    }

    pub async fn kill(&mut self) {
        self.kill_all();
        let mut unshare = self.running.take().expect("it runs");
        unshare.wait().await.expect("it was ours");
    }

    /// Kills the first process of the namespace, and with it all others; before there is one, the
    /// process that makes it.
    fn kill_all(&self) {
        let unshare = self.running.as_ref().and_then(Child::id);
        let pid = unshare.expect("it runs");
        let first = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let first = first.ok().and_then(|first| first.trim().parse().ok());
        send_signal(first.unwrap_or(pid), "KILL");
    }

    /// All nodes, as its Patroni sees them. `None` if it does not answer.
    pub async fn members(&self) -> Option<Vec<Value>> {
        self.running.as_ref()?;
        let api = SocketAddr::from(([127, 0, 0, 1], self.api));
        let (_, body) = try_probe(api, "/cluster").await.ok()?;
        let cluster: Value = serde_json::from_str(&body).ok()?;
        cluster["members"].as_array().cloned()
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("log")
    }

    /// The end of the log of Patroni and Postgres.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(30)..].to_vec()
    }
}

/// Its files can be deleted when no process writes to them.
impl Drop for Node {
    fn drop(&mut self) {
        if self.running.as_ref().and_then(Child::id).is_none() {
            return;
        }
        self.kill_all();
        while let Some(Ok(None)) = self.running.as_mut().map(Child::try_wait) {
            sleep(Duration::from_millis(10));
        }
    }
}
