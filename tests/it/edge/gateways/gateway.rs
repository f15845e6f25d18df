//! A real gateway with its configuration from `deploy/edge/`.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

use crate::harness::{eventually, free_port, skip};

#[derive(Clone, Copy, Debug)]
pub enum Gateway {
    Envoy,
    Caddy,
    Nginx,
}

/// It is killed when it is dropped.
pub struct Running {
    pub addr: SocketAddr,
    folder: TempDir,
    log: &'static str,
    _child: Child,
}

/// `deploy/edge/nginx.conf` is a part of this. Without a master process there are no children that
/// outlive it.
const NGINX: &str = "
    daemon off; master_process off; pid nginx.pid; error_log output;
    events {}
    http {
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        include nginx.conf;
    }";

impl Gateway {
    /// Starts it in front of the edge and the application. `None` without its program; then the
    /// test was skipped.
    pub async fn start(self, edge: SocketAddr, application: SocketAddr) -> Option<Running> {
        let Some(program) = env::var_os(self.variable()) else {
            skip(&format!("no {self:?}: {} is not set", self.variable()));
            return None;
        };
        loop {
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let ports = [addr, edge, application].map(|addr| addr.port());
            if let Some(running) = self.start_at(&program, addr, ports).await {
                return Some(running);
            }
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Envoy => "TEST_ENVOY_BIN",
            Self::Caddy => "TEST_CADDY_BIN",
            Self::Nginx => "TEST_NGINX_BIN",
        }
    }

    /// `None` if its port was taken at the last moment.
    async fn start_at(
        self,
        program: &OsString,
        addr: SocketAddr,
        ports: [u16; 3],
    ) -> Option<Running> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, arguments, log) = self.command_line();
        let text = configuration(file, ports, folder.path());
        fs::write(folder.path().join(file), text).expect("ours");
        fs::write(folder.path().join("main.conf"), NGINX).expect("ours");
        let output = File::create(folder.path().join("output")).expect("ours");
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&folder)
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("the gateway runs");
        while TcpStream::connect(addr).await.is_err() {
            if child.try_wait().expect("ours").is_some() {
                let output = fs::read_to_string(folder.path().join("output")).expect("ours");
                assert!(
                    output.to_lowercase().contains("address already in use"),
                    "{output}"
                );
                return None;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Some(Running {
            addr,
            folder,
            log,
            _child: child,
        })
    }

    /// The file in `deploy/edge/`, the arguments, and the file with the access log.
    fn command_line(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            // A hot restart would share memory with the Envoy of another test.
            Self::Envoy => (
                "envoy.yaml",
                &[
                    "-c",
                    "envoy.yaml",
                    "--disable-hot-restart",
                    "--file-flush-interval-msec",
                    "100",
                ],
                "output",
            ),
            Self::Caddy => ("Caddyfile", &["run", "--config", "Caddyfile"], "output"),
            Self::Nginx => ("nginx.conf", &["-p", ".", "-c", "main.conf"], "access.log"),
        }
    }
}

/// The file with the ports of this test, and its logs in `folder`.
fn configuration(file: &str, ports: [u16; 3], folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/edge")
        .join(file);
    let mut text = fs::read_to_string(path).expect("a configuration");
    // First to names, since a port of this test may contain the digits of another one.
    let names = [
        ("8080", "{gateway}"),
        ("9001", "{edge}"),
        ("3000", "{application}"),
    ];
    for (port, name) in names {
        assert_eq!(text.matches(port).count(), 1, "{file} has {port} once");
        text = text.replace(port, name);
    }
    for ((_, name), port) in names.into_iter().zip(ports) {
        text = text.replace(name, &port.to_string());
    }
    text.replace("/var/log/nginx", folder.to_str().expect("UTF-8"))
}

impl Running {
    /// The access log, as soon as this many of its lines contain `text`.
    pub async fn log_of(&self, text: &str, lines: usize) -> String {
        let mut log = String::new();
        eventually(async || {
            log = fs::read_to_string(self.folder.path().join(self.log)).expect("ours");
            log.lines().filter(|line| line.contains(text)).count() >= lines
        })
        .await;
        log
    }
}
