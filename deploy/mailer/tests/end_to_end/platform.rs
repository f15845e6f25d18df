//! The real service and the real mailer, as processes, with a topic of their own.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use realchat_mailer_example::proto::{
    ClaimMailRequest, RegisterRequest, RequestPasswordResetRequest, ResetPasswordRequest,
    auth_service_client::AuthServiceClient, mail_service_client::MailServiceClient,
    recovery_service_client::RecoveryServiceClient,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::{Request, Status, transport::Channel};

use crate::{eventually, kafka};

const TOKEN: &str = "an-internal-token-of-32-characters";
const PASSWORD: &str = "lake tulip harbour";
pub const NEW_PASSWORD: &str = "wasp ember 417 tulip";

pub struct Platform {
    folder: TempDir,
    database_url: String,
    addr: SocketAddr,
    service: Option<Child>,
    pub topic: kafka::Topic,
    mailers: AtomicU32,
}

impl Platform {
    /// The service with an empty database. `None`, which it says, if the tests have no services.
    pub async fn start() -> Option<Self> {
        Self::start_on(None).await
    }

    /// Like `start`. With a URL the service uses that database.
    pub async fn start_on(database_url: Option<String>) -> Option<Self> {
        let needed = ["TEST_KAFKA_BROKERS", "TEST_SMTP_URL", "TEST_SMTP_API"];
        if let Some(missing) = needed.iter().find(|name| env::var_os(name).is_none()) {
            assert!(env::var_os("CI").is_none(), "{missing} is not set");
            eprintln!("SKIPPED: {missing} is not set; see `tests/run smtp with`");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let own = format!("sqlite://{}", folder.path().join("auth.db").display());
        let mut platform = Self {
            folder,
            database_url: database_url.unwrap_or(own),
            addr: free_address(),
            service: None,
            topic: kafka::Topic::create().await,
            mailers: AtomicU32::new(0),
        };
        platform.start_service().await;
        Some(platform)
    }

    pub async fn start_service(&mut self) {
        let log = fs::File::create(self.service_log()).unwrap();
        let process = Command::new(service_binary())
            .env_clear()
            .env("DATABASE_URL", &self.database_url)
            .env("GRPC_ADDR", self.addr.to_string())
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("INTERNAL_TOKENS", format!("mailer:{TOKEN}"))
            .env("INTERNAL_SCOPES", "mailer=mail")
            .env("JWT_SECRET", "a-signing-key-of-the-tests-of-32-bytes")
            .env("DATA_KEY", "another-key-of-the-tests-with-32-bytes")
            .env("BCRYPT_COST", "10")
            .env("KAFKA_BROKERS", kafka::brokers())
            .env("KAFKA_TOPIC", &self.topic.name)
            .env("LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.service = Some(process.expect("the service starts"));
        let addr = self.addr;
        eventually(async || TcpStream::connect(addr).await.ok()).await;
    }

    fn service_log(&self) -> PathBuf {
        self.folder.path().join("service.log")
    }

    pub fn kill_service(&mut self) {
        if let Some(mut process) = self.service.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn mailer(&self, smtp_url: &str) -> Mailer {
        self.mailer_with(smtp_url, &[])
    }

    pub fn mailer_with(&self, smtp_url: &str, variables: &[(&str, &str)]) -> Mailer {
        let number = self.mailers.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("mailer-{number}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_realchat-mailer-example"))
            .env_clear()
            .env("KAFKA_BROKERS", kafka::brokers())
            .env("KAFKA_TOPIC", &self.topic.name)
            .env("KAFKA_GROUP", &self.topic.group)
            .env("AUTH_URL", format!("http://{}", self.addr))
            .env("AUTH_TOKEN", TOKEN)
            .env("SMTP_URL", smtp_url)
            .env("MAIL_FROM", "RealChat <no-reply@realchat.example>")
            .env("LINK_BASE_URL", "https://chat.example/")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn();
        let process = process.expect("the mailer starts");
        Mailer { process, log }
    }

    pub async fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel().await)
    }

    pub async fn register(&self, email: &str) {
        register(self.auth().await, email.to_owned()).await;
    }

    pub async fn recovery(&self) -> RecoveryServiceClient<Channel> {
        RecoveryServiceClient::new(self.channel().await)
    }

    pub async fn request_reset(&self, email: &str, locale: &str) {
        request_reset(self.recovery().await, email.to_owned(), locale.to_owned()).await;
    }

    pub async fn reset_password(&self, token: &str) -> Result<(), Status> {
        let request = ResetPasswordRequest {
            reset_token: token.to_owned(),
            new_password: NEW_PASSWORD.to_owned(),
            ..ResetPasswordRequest::default()
        };
        self.recovery()
            .await
            .reset_password(request)
            .await
            .map(drop)
    }

    /// Claims a mail as another mailer.
    pub async fn claim(&self, request_id: &str) -> Result<(), Status> {
        let mut request = Request::new(ClaimMailRequest {
            request_id: request_id.to_owned(),
        });
        let authorization = format!("Bearer {TOKEN}").parse().unwrap();
        request
            .metadata_mut()
            .insert("authorization", authorization);
        let mut client = MailServiceClient::new(self.channel().await);
        client.claim_mail(request).await.map(drop)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect().await.unwrap()
    }
}

pub async fn register(mut client: AuthServiceClient<Channel>, email: String) {
    let request = RegisterRequest {
        email,
        password: PASSWORD.to_owned(),
        ..RegisterRequest::default()
    };
    client.register(request).await.unwrap();
}

pub async fn request_reset(
    mut client: RecoveryServiceClient<Channel>,
    email: String,
    locale: String,
) {
    let request = RequestPasswordResetRequest { email, locale };
    client.request_password_reset(request).await.unwrap();
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.kill_service();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.service_log()).unwrap_or_default();
            eprintln!("the service's log:\n{log}");
        }
    }
}

pub struct Mailer {
    process: Child,
    log: PathBuf,
}

impl Mailer {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub async fn logs(&self, text: &str) {
        eventually(async || self.log().contains(text).then_some(())).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and the end of the process.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        self.ends().await
    }

    pub async fn ends(&mut self) -> ExitStatus {
        eventually(async || self.process.try_wait().unwrap()).await
    }
}

impl Drop for Mailer {
    /// No test may find an address or a token in the log.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("the mailer's log:\n{log}");
            return;
        }
        for secret in ["rcm_", "@example.com", TOKEN] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

/// The service keeps it when it is started again. It is below the ports that the kernel gives to
/// outgoing connections, and in no range of `tests/run`.
fn free_address() -> SocketAddr {
    loop {
        let random = u16::try_from(getrandom::u32().unwrap() % 4_000).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], 4_000 + random));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

fn service_binary() -> &'static Path {
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
