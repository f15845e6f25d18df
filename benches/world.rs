//! The environment of the benchmarks: databases on a real Postgres, and the service in its own
//! process.

use std::{
    env,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    process::{Command as StdCommand, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use auth_service::{
    app::{App, SystemClock},
    config::{Args, Config},
    db::{Db, NewSession, NewUser, Registration},
    model::{
        Act, Clock as _, DataKeys, DataSecrets, Email, Event, Form, Payload, StoredHash, UserId,
    },
};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{Result, footprint, refresh::echo};

/// The benchmarks cancel many logins, and one that is cancelled after its hash began counts as a
/// failure.
const UNTHROTTLED: [(&str, &str); 3] = [
    ("THROTTLE_FREE_PER_DEVICE", "1000000"),
    ("THROTTLE_FREE_PER_ACCOUNT", "1000000"),
    ("THROTTLE_DAILY_PER_ACCOUNT", "1000000"),
];
pub const JWT_SECRET: &str = "a-secret-of-the-benches-32-bytes-long";
const DATA_KEY: &str = "another-key-of-the-benches-32-bytes";

/// Whether `tests/run` has started Postgres and Kafka.
pub fn has_services() -> bool {
    ["TEST_DATABASE_URL", "TEST_KAFKA_BROKERS"]
        .iter()
        .all(|name| env::var_os(name).is_some())
}

/// Replaces this process by `tests/run`, which starts them and then this program again.
pub fn rerun_with_services() -> ExitCode {
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run");
    let me = env::current_exe().expect("a path");
    let error = StdCommand::new(run)
        .arg("with")
        .arg(me)
        .args(env::args_os().skip(1))
        .exec();
    eprintln!("benches: {run}: {error}");
    ExitCode::FAILURE
}

/// A new database on the server of `tests/run`.
pub struct Database {
    server: String,
    name: String,
    /// For `DATABASE_URL`.
    pub url: String,
}

impl Database {
    async fn create(server: String) -> Result<Self> {
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        let (base, _) = server.rsplit_once('/').ok_or("TEST_DATABASE_URL")?;
        let url = format!("{base}/{name}");
        client(&server)
            .await?
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await?;
        Ok(Self { server, name, url })
    }

    /// Creates a database with the tables of the service.
    pub async fn migrated() -> Result<(Self, Db)> {
        Self::migrated_on(env::var("TEST_DATABASE_URL")?).await
    }

    /// The same on another server. The URL is a superuser's.
    pub async fn migrated_on(server: String) -> Result<(Self, Db)> {
        let database = Self::create(server).await?;
        let config = config(&database.url, &[])?.database;
        let db = Db::new(&config, Duration::from_secs(30), &mut Registry::default());
        db.migrate().await?;
        Ok((database, db))
    }

    /// A connection that does not use the code of the service.
    pub async fn client(&self) -> Result<tokio_postgres::Client> {
        client(&self.url).await
    }

    /// How many transactions the database has run, as far as its backends have reported them.
    pub async fn transactions(&self) -> Result<f64> {
        let sql = "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database
            WHERE datname = $1";
        let server = client(&self.server).await?;
        Ok(server.query_one(sql, &[&self.name]).await?.get(0))
    }

    pub async fn drop(self) -> Result<()> {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        Ok(client(&self.server).await?.batch_execute(&sql).await?)
    }
}

pub async fn client(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Registers an account with any text as password hash. A session determines the user id.
pub async fn new_user(
    db: &Db,
    email: &str,
    password_hash: &str,
    session: Option<&NewSession>,
) -> Result<UserId> {
    let now = SystemClock.now();
    let user_id = session.map_or_else(|| UserId::new(now), |session| session.user_id);
    let user = NewUser {
        id: user_id,
        email,
        locale: None,
        password_hash: &StoredHash::new(password_hash, user_id, Form::Old)?,
        created_at: now,
    };
    let event = user_created(user_id, email)?;
    match db.register(&user, session, None, &event).await? {
        Registration::Created => Ok(user_id),
        Registration::EmailTaken => Err("an address came twice".into()),
    }
}

pub fn user_created(user_id: UserId, email: &str) -> Result<Event> {
    let act = Act {
        now: SystemClock.now(),
        traceparent: None,
        administrator: None,
    };
    let payload = Payload::UserCreated {
        email: Email::parse(email)?,
        created_at: act.now,
        imported: false,
    };
    Ok(Event::new(user_id, payload, &act))
}

/// Those of the services here.
pub fn data_keys() -> DataKeys {
    DataKeys::new(&DataSecrets {
        current: DATA_KEY.as_bytes().to_vec().into(),
        previous: Vec::new(),
    })
}

/// The configuration of the service for these command-line options.
pub fn config(url: &str, options: &[&str]) -> Result<Config> {
    let defaults = [
        "auth-service",
        "--database-url",
        url,
        "--grpc-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
        "--jwt-secret",
        JWT_SECRET,
        "--data-key",
        DATA_KEY,
    ];
    let words = defaults.iter().chain(options).map(Into::into);
    let args = Args::from_argv(words)?;
    Config::load(&args, "".as_ref()).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("; ").into()
    })
}

/// The service in its own process, which is killed on drop.
pub struct Service {
    process: Child,
    addr: SocketAddr,
}

impl Service {
    /// Starts the release binary.
    pub async fn start(url: &str, variables: &[(&str, &str)]) -> Result<Self> {
        Self::run(
            Command::new(env!("CARGO_BIN_EXE_auth-service"))
                .env("DATABASE_URL", url)
                .envs(variables.iter().copied()),
        )
        .await
    }

    /// Starts a service in this program: with refreshes `batched` or `alone`, or an `echo`. It has
    /// neither telemetry nor an allocator that wipes, so it is a little faster than the release
    /// binary.
    pub async fn start_variant(url: &str, variant: &str) -> Result<Self> {
        let me = env::current_exe()?;
        Self::run(Command::new(me).args(["serve", variant, url])).await
    }

    async fn run(command: &mut Command) -> Result<Self> {
        let mut child = command
            .env("GRPC_ADDR", "127.0.0.1:0")
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("JWT_SECRET", JWT_SECRET)
            .env("DATA_KEY", DATA_KEY)
            .env("LOG_FORMAT", "json")
            .envs(UNTHROTTLED)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("piped")?).lines();
        let addr = loop {
            let line = lines
                .next_line()
                .await?
                .ok_or("the service did not start")?;
            if let Some((_, rest)) = line.split_once("\"grpc\":\"") {
                break rest.split_once('"').ok_or("JSON")?.0.parse()?;
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            process: child,
            addr,
        })
    }

    /// The resident bytes.
    pub fn resident(&self) -> Result<u64> {
        footprint::resident(self.process.id().ok_or("it runs")?)
    }

    /// The most bytes that were resident.
    pub fn peak(&self) -> Result<u64> {
        footprint::peak(self.process.id().ok_or("it runs")?)
    }

    pub fn cpu_time(&self) -> Result<Duration> {
        footprint::cpu_time(self.process.id().ok_or("it runs")?)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub async fn connect(&self) -> Result<Channel> {
        Ok(Channel::from_shared(self.url())?.connect().await?)
    }
}

/// Runs a variant of the service in this process until it is killed.
pub fn serve(url: &str, variant: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = runtime.block_on(async {
        match variant {
            "echo" => echo::serve().await,
            _ => serve_variant(url, variant == "batched").await,
        }
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_variant(url: &str, batch_refreshes: bool) -> Result<()> {
    let mut config = config(url, &[])?;
    config.database.batch_refreshes = batch_refreshes;
    let app = App::build(config, Arc::new(SystemClock)).await?;
    say_address(app.grpc_addr()?);
    Ok(app.run(CancellationToken::new()).await?)
}

/// In the form of the service's log.
pub fn say_address(addr: SocketAddr) {
    eprintln!("\"grpc\":\"{addr}\"");
}

/// A port on which no process listens.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
