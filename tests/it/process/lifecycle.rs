//! What only a process has: a first start in an empty folder, signals, exit codes.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    pin::Pin,
    time::Duration,
};

use auth_service::proto::{
    GetSigningKeyRequest, LoginRequest, LoginResponse, SigningKey,
    auth_service_client::AuthServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::harness::{
    Backend, FREE_PORTS, JWT_SECRET, Kafka, Process, TestDatabase, both, connect, login, refresh,
    refused, register, without_capabilities,
};

/// Some seconds for one hash: a call that is still running when the signal comes.
const SLOW: [(&str, &str); 3] = [
    ("BCRYPT_COST", "14"),
    ("REQUEST_TIMEOUT", "60s"),
    ("PASSWORD_MAX_WAIT", "50s"),
];

/// Every variable of the contract's table.
const VARIABLES: [&str; 37] = [
    "GRPC_ADDR",
    "ADMIN_ADDR",
    "DATABASE_URL",
    "DATABASE_MAX_CONNECTIONS",
    "JWT_SECRET",
    "JWT_SECRET_FILE",
    "JWT_NEXT_SECRET",
    "JWT_NEXT_SECRET_FILE",
    "JWT_PREVIOUS_SECRETS",
    "JWT_PREVIOUS_SECRETS_FILE",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "ACCESS_TOKEN_TTL",
    "REFRESH_TOKEN_TTL",
    "SESSION_MAX_AGE",
    "REFRESH_RETRY_WINDOW",
    "REQUEST_TIMEOUT",
    "BCRYPT_COST",
    "PASSWORD_THREADS",
    "PASSWORD_MAX_WAIT",
    "PASSWORD_MIN_SCORE",
    "PASSWORD_BLOCKLIST_FILE",
    "INTERNAL_TOKENS",
    "INTERNAL_TOKENS_FILE",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "TLS_CLIENT_CA_FILE",
    "INTERNAL_CLIENT_NAMES",
    "KAFKA_BROKERS",
    "KAFKA_TOPIC",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_SSL_CA_FILE",
    "LOG",
];

type Client = AuthServiceClient<Channel>;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

async fn signing_key(client: &mut Client, token: &str) -> SigningKey {
    let mut request = Request::new(GetSigningKeyRequest {});
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let response = client.get_signing_key(request).await.unwrap().into_inner();
    response.signing_key.unwrap()
}

/// Starts a call and returns it, to be awaited, once the server has it: it has answered
/// another one that came later on the same connection.
async fn in_flight<T>(
    client: &Client,
    call: impl Future<Output = T>,
) -> Pin<Box<impl Future<Output = T>>> {
    let mut call = Box::pin(call);
    let mut client = client.clone();
    tokio::select! {
        biased;
        _ = &mut call => panic!("the call is over already"),
        answer = client.refresh(refresh("junk")) => drop(refused(answer)),
    }
    call
}

async fn slow_login(mut client: Client) -> Result<Response<LoginResponse>, Status> {
    client.login(login("ana@example.com")).await
}

/// A login whose caller never sends the request itself.
async fn login_without_a_body(channel: Channel) -> Result<Response<LoginResponse>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the connection stands");
    let path = "/realchat.auth.v1.AuthService/Login".parse().unwrap();
    let nothing = futures::stream::pending::<LoginRequest>();
    let codec = ProstCodec::<LoginRequest, LoginResponse>::default();
    client
        .client_streaming(Request::new(nothing), path, codec)
        .await
}

async fn until_refused(addr: SocketAddr) {
    while TcpStream::connect(addr).await.is_ok() {
        // A full queue would drop the next attempt, whose repetition comes a second later.
        sleep(Duration::from_millis(10)).await;
    }
}

both! {
    async fn a_signal_lets_the_running_call_finish_and_gives_the_lease_up(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let variables = [&SLOW[..], &kafka.variables()].concat();
        let mut process = Process::serve(&database, &variables);
        let client = process.client().await;
        client
            .clone()
            .register(register("ana@example.com"))
            .await
            .unwrap();
        process.wait_for("outbox lease acquired").await;
        let held = database.dialect("expires_at > 0", "expires_at > now()");
        assert_eq!(
            database
                .count(&format!("SELECT count(*) FROM outbox_lease WHERE {held}"))
                .await,
            1
        );
        let addr = process.grpc_addr().await;
        let watch = HealthClient::new(connect(addr).await)
            .watch(HealthCheckRequest::default())
            .await;
        let mut health = watch.unwrap().into_inner();
        assert_eq!(
            health.message().await.unwrap().unwrap().status(),
            ServingStatus::Serving
        );

        let mut login = in_flight(&client, slow_login(client.clone())).await;
        process.signal("TERM");
        tokio::select! {
            biased;
            _ = &mut login => panic!("new connections are still accepted: {:#?}", process.log()),
            () = until_refused(addr) => {}
        }
        assert_eq!(
            health.message().await.unwrap().unwrap().status(),
            ServingStatus::NotServing
        );
        let logged_in = login.await.expect("the call is finished").into_inner();
        assert!(!logged_in.session_id.is_empty());
        assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
        assert_eq!(database.count("SELECT count(*) FROM sessions").await, 1);
        let released = database.dialect("expires_at = 0", "expires_at = 'epoch'");
        assert_eq!(
            database
                .count(&format!(
                    "SELECT count(*) FROM outbox_lease WHERE {released}"
                ))
                .await,
            1
        );
    }

    async fn a_second_signal_ends_the_process_at_once(database: TestDatabase) {
        let mut process = Process::serve(&database, &SLOW);
        let client = process.client().await;
        client
            .clone()
            .register(register("ana@example.com"))
            .await
            .unwrap();
        let login = in_flight(&client, slow_login(client.clone())).await;
        process.signal("TERM");
        process.wait_for("finishing what runs").await;
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(1));
        refused(login.await);
    }

    async fn an_interrupt_ends_an_idle_process_in_order(database: TestDatabase) {
        let mut process = Process::serve(&database, &[]);
        process.grpc_addr().await;
        process.signal("INT");
        assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
    }

    async fn migrate_needs_the_database_only(database: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let url = database.url();
        let output = Process::run(folder.path(), &["migrate"], &[("DATABASE_URL", &url)]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        for table in ["users", "sessions", "outbox_events"] {
            assert_eq!(
                database
                    .count(&format!("SELECT count(*) FROM {table}"))
                    .await,
                0
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    async fn a_port_in_use_is_named_and_ends_the_start(database: TestDatabase) {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let free = "127.0.0.1:0";
        for (variable, grpc, admin) in [
            ("GRPC_ADDR", addr.as_str(), free),
            ("ADMIN_ADDR", free, &addr),
        ] {
            let mut process =
                Process::serve(&database, &[("GRPC_ADDR", grpc), ("ADMIN_ADDR", admin)]);
            assert_eq!(process.exit_code().await, Some(1));
            process
                .wait_for(&format!("{variable}: cannot listen on {addr}"))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_ends_does_not_hold_up_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let mut process = Process::serve(&database, &SLOW);
    let channel = connect(process.grpc_addr().await).await;
    let client = AuthServiceClient::new(channel.clone());
    let endless = in_flight(&client, login_without_a_body(channel)).await;
    process.signal("TERM");
    process.wait_for("stopped before all calls had ended").await;
    assert_eq!(process.exit_code().await, Some(0));
    refused(endless.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_greeting_does_not_hold_up_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let mut process = Process::serve(&database, &[]);
    let addr = process.grpc_addr().await;
    let mut silent = TcpStream::connect(addr).await.unwrap();
    silent.write_all(b"P").await.unwrap();
    // Connections are accepted in turn, so the silent one was.
    let mut client = AuthServiceClient::new(connect(addr).await);
    client.register(register("ana@example.com")).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    process.wait_for("\"stopped\"").await;
    // What the server said first, then the end.
    silent.read_to_end(&mut Vec::new()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_ends_the_start() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/x", hangs.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DATABASE_URL", url.as_str()), ("JWT_SECRET", JWT_SECRET)];
    let mut process = Process::start(folder.path(), &[], &variables);
    assert_eq!(process.exit_code().await, Some(1));
    process
        .wait_for("the database did not answer in time")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_leaves_no_core_dump() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let process = Process::serve(&database, &[]);
    process.grpc_addr().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"]);
}

/// What keeps its memory from another process of the same user: the kernel lets that one look
/// only into what is dumpable. Root may look everywhere, but not without its capabilities.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_the_same_user_can_look_into_its_memory() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let process = Process::serve_without_capabilities(&database);
    process.grpc_addr().await;
    let looked = |pid: u32| {
        let file = format!("/proc/{pid}/environ");
        let mut cat = without_capabilities("cat".as_ref());
        cat.arg(file).output()
    };
    let output = looked(process.pid()).await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Permission denied"), "{said}");

    // Of any other process it sees the environment.
    let mut other = without_capabilities("sleep".as_ref());
    other.arg("60").env("WHO", "other").kill_on_drop(true);
    let child = other.spawn().unwrap();
    let other = child.id().unwrap();
    let text = format!("/proc/{other}/cmdline");
    while !fs::read(&text).unwrap().starts_with(b"sleep") {
        sleep(Duration::from_millis(10)).await; // until `setpriv` has become it
    }
    let output = looked(other).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("WHO=other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_no_text_is_named() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_auth-service"));
    let output = command
        .env_clear()
        .env("JWT_SECRET", OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "JWT_SECRET: is not text in UTF-8\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_does_not_hold_up_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = hangs.local_addr().unwrap().to_string();
    let mut process = Process::serve(&database, &[("KAFKA_BROKERS", &broker)]);
    let mut client = process.client().await;
    client.register(register("ana@example.com")).await.unwrap();
    let _asked = hangs.accept().await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
    let released = "SELECT count(*) FROM outbox_lease WHERE expires_at = 0";
    assert_eq!(database.count(released).await, 1);
    assert_eq!(
        database.count("SELECT count(*) FROM outbox_events").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_empty_folder_the_service_makes_what_it_needs_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut process = Process::start(folder.path(), &[], &FREE_PORTS);
    let mut first = process.client().await;
    assert_eq!(mode(&data), 0o700);
    let secret_files = ["jwt-secret", "internal-token"].map(|name| data.join(name));
    for file in fs::read_dir(&data).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
    assert!(data.join("auth.db").is_file());
    let secrets = secret_files
        .clone()
        .map(|file| fs::read_to_string(file).unwrap());
    let loud = |process: &Process| {
        let lines = process.log().into_iter();
        lines
            .filter(|line| line.contains("EMBEDDED DEFAULT"))
            .collect::<Vec<_>>()
    };
    let lines = loud(&process);
    assert_eq!(lines.len(), 1);
    for name in ["data/auth.db", "data/jwt-secret", "data/internal-token"] {
        assert!(lines[0].contains(name), "{}", lines[0]);
    }
    let log = process.log().concat();
    assert!(secrets.iter().all(|secret| !log.contains(secret.trim())));

    let user_id = first
        .register(register("ana@example.com"))
        .await
        .unwrap()
        .into_inner()
        .user_id;
    let key = signing_key(&mut first, secrets[1].trim()).await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));

    let process = Process::start(folder.path(), &[], &FREE_PORTS);
    let mut second = process.client().await;
    assert_eq!(
        secret_files.map(|file| fs::read_to_string(file).unwrap()),
        secrets
    );
    assert!(signing_key(&mut second, secrets[1].trim()).await == key);
    let logged_in = second
        .login(login("ana@example.com"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(logged_in.user_id, user_id);
    let lines = loud(&process);
    assert!(
        lines.len() == 1 && !lines[0].contains("GENERATED"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_the_configuration_is_one_line_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let short = "a-secret-that-is-31-bytes-long!";
    assert_eq!(short.len(), 31);
    let output = Process::run(
        folder.path(),
        &[],
        &[
            ("DATABASE_URL", "mysql://root:hunter2@db/auth"),
            ("JWT_SECRET", short),
            ("BCRYPT_COST", "4711"),
            ("KAFKA_SECURITY_PROTOCOL", "CARRIER_PIGEON"),
            ("GRPC_ADDR", "everywhere"),
            ("KAFKA_SASL_PASSWORD_FILE", "no/such/file"),
        ],
    )
    .await;
    assert_eq!(output.code, Some(64));
    assert!(output.stdout.is_empty());
    let text = &output.stderr;
    let mut names = Vec::new();
    for line in text.lines() {
        let (name, what) = line.split_once(": ").expect("NAME: what");
        assert!(!what.is_empty());
        names.push(name);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), text.lines().count(), "{text}");
    for name in [
        "BCRYPT_COST",
        "DATABASE_URL",
        "GRPC_ADDR",
        "JWT_SECRET",
        "KAFKA_SECURITY_PROTOCOL",
    ] {
        assert!(names.contains(&name), "{name}: {text}");
    }
    for value in [
        "hunter2",
        "mysql://root",
        short,
        "4711",
        "CARRIER_PIGEON",
        "everywhere",
    ] {
        assert!(!text.contains(value), "{text}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_a_problem_and_no_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let output = Process::run(folder.path(), &[], &[("DATABASE_URL", "sqlite://auth.db")]).await;
    assert_eq!(output.code, Some(64));
    let text = &output.stderr;
    assert!(
        text.starts_with("JWT_SECRET: ") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_ends_with_64_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &["outbox"],
        &["outbox", "discard", "x"],
    ] {
        let output = Process::run(folder.path(), arguments, &FREE_PORTS).await;
        assert_eq!(output.code, Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_every_variable_and_shows_no_value() {
    let secret = [
        ("JWT_SECRET", JWT_SECRET),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ];
    let output = Process::run(Path::new("/"), &["--help"], &secret).await;
    assert_eq!(output.code, Some(0));
    let help = output.stdout;
    for name in VARIABLES
        .into_iter()
        .chain(["LOG_FORMAT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
    {
        assert!(help.contains(&format!("[env: {name}]")), "{name}");
    }
    assert!(!help.contains(JWT_SECRET) && !help.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_postgres_ends_the_start_with_one_line_without_its_password() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("postgres://auth:hunter2@{closed}/auth");
    let variables = [
        &FREE_PORTS[..],
        &[
            ("DATABASE_URL", &url),
            ("JWT_SECRET", JWT_SECRET),
            ("LOG", "trace"),
        ],
    ]
    .concat();
    for arguments in [&[][..], &["migrate"], &["outbox", "list"]] {
        let output = Process::run(Path::new("/"), arguments, &variables).await;
        assert_eq!(output.code, Some(1), "{arguments:?}");
        let text = &output.stderr;
        let errors: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(
            errors[0].contains("cannot connect to the database"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
