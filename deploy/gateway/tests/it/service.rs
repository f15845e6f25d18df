//! The real service as a process on SQLite.
//!
//! `AUTH_SERVICE_BIN` names its binary. Without it, the tests build one.

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{Router, extract::connect_info::MockConnectInfo};
use realchat_gateway_example::{
    auth::Auth,
    routes::{Gateway, router},
    verifier::Verifier,
    watch,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

pub const TOKEN: &str = "an-internal-token-of-32-characters";
pub const MAILER_TOKEN: &str = "an-internal-token-of-the-mailer-for-32";
pub const SUPPORT_TOKEN: &str = "an-internal-token-of-support-of-32-chars";
pub const OLD_KEY: &str = "the-old-secret-of-the-tests-has-32-bytes";
pub const NEW_KEY: &str = "the-new-secret-of-the-tests-has-32-bytes";

/// The service. A restart keeps the port and the database.
pub struct Service {
    folder: TempDir,
    pub addr: SocketAddr,
    process: Option<Child>,
}

impl Service {
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut service = Self {
            folder: TempDir::new().unwrap(),
            addr,
            process: None,
        };
        service.restart(variables).await;
        service
    }

    pub async fn restart(&mut self, variables: &[(&str, &str)]) {
        self.stop();
        let process = Command::new(binary())
            .env_clear()
            .env(
                "DATABASE_URL",
                format!("sqlite://{}", self.folder.path().join("auth.db").display()),
            )
            .env("GRPC_ADDR", self.addr.to_string())
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env(
                "INTERNAL_TOKENS",
                format!("gateway:{TOKEN},mailer:{MAILER_TOKEN},support:{SUPPORT_TOKEN}"),
            )
            .env("INTERNAL_SCOPES", "mailer=mail,support=admin")
            .env("JWT_SECRET", OLD_KEY)
            .env("DATA_KEY", "a-data-key-of-the-example-of-32-bytes")
            .env("BCRYPT_COST", "10")
            .env("LOG", "error,audit=info")
            .env("LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(self.log()).unwrap())
            .spawn();
        self.process = Some(process.expect("the service starts"));
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(self.addr).await.is_err() {
            assert!(Instant::now() < deadline, "the service listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("service.log")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The gateway in this process, for a client at 192.0.2.7.
    pub async fn gateway(&self) -> Router {
        self.gateway_that_watches(&self.url()).await
    }

    /// Like [`Self::gateway`]. It receives keys and ended sessions from another address.
    pub async fn gateway_that_watches(&self, url: &str) -> Router {
        let verifier = Arc::new(Verifier::default());
        let watched = Auth::new(url, TOKEN, None).unwrap();
        tokio::spawn(watch::run(watched, Arc::clone(&verifier)));
        verifier.ready().await;
        self.gateway_with(verifier)
    }

    pub fn gateway_with(&self, verifier: Arc<Verifier>) -> Router {
        let auth = Auth::new(&self.url(), TOKEN, None).unwrap();
        let client = SocketAddr::from(([192, 0, 2, 7], 12345));
        router(Arc::new(Gateway { auth, verifier })).layer(MockConnectInfo(client))
    }

    /// The ids of all mails that were asked for. The audit log has them, in its order; a mail that
    /// was claimed is there twice.
    pub fn mail_requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ids: Vec<String> = Vec::new();
        for line in lines {
            if let Some(id) = line["mail_request_id"].as_str()
                && !ids.iter().any(|known| known == id)
            {
                ids.push(id.to_owned());
            }
        }
        ids
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = env::var_os("AUTH_SERVICE_BIN") {
            return path.into();
        }
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--bin", "auth-service"])
            .current_dir(&home)
            .status();
        assert!(built.expect("cargo runs").success());
        let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
        home.join(target).join("debug/auth-service")
    })
}
