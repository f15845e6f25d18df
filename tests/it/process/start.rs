//! How the process starts: an empty folder, a wrong configuration, and what makes a start fail.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use auth_service::{
    config::{Declaration, variables},
    proto::{GetSigningKeyRequest, SigningKey, auth_service_client::AuthServiceClient},
};
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::harness::{
    DATA_KEY, FREE_PORTS, JWT_SECRET, Process, TestDatabase, both, login, register, with_bearer,
};

async fn signing_key(client: &mut AuthServiceClient<Channel>, token: &str) -> SigningKey {
    let request = with_bearer(GetSigningKeyRequest {}, token);
    let response = client.get_signing_key(request).await.unwrap().into_inner();
    response.signing_key.unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

both! {
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
async fn in_an_empty_folder_the_service_makes_what_it_needs_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut process = Process::start(folder.path(), &[], &FREE_PORTS);
    let mut first = process.client().await;
    assert_eq!(mode(&data), 0o700);
    let secret_files = ["jwt-secret", "data-key", "internal-token"].map(|name| data.join(name));
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
    for name in [
        "data/auth.db",
        "data/jwt-secret",
        "data/data-key",
        "data/internal-token",
    ] {
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
    let key = signing_key(&mut first, secrets[2].trim()).await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));

    let process = Process::start(folder.path(), &[], &FREE_PORTS);
    let mut second = process.client().await;
    assert_eq!(
        secret_files.map(|file| fs::read_to_string(file).unwrap()),
        secrets
    );
    assert!(signing_key(&mut second, secrets[2].trim()).await == key);
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
async fn a_database_that_hangs_ends_the_start() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/x", hangs.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
    ];
    let mut process = Process::start(folder.path(), &[], &variables);
    assert_eq!(process.exit_code().await, Some(1));
    process
        .wait_for("the database did not answer in time")
        .await;
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
            ("DATA_KEY", DATA_KEY),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_text_is_named() {
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
    let names: Vec<_> = text
        .lines()
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(names, ["JWT_SECRET", "DATA_KEY"]);
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
        ("DATA_KEY", DATA_KEY),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ];
    let output = Process::run(Path::new("/"), &["--help"], &secret).await;
    assert_eq!(output.code, Some(0));
    let help = output.stdout;
    for name in variables().flat_map(Declaration::names) {
        assert!(help.contains(&format!("[env: {name}]")), "{name}");
    }
    assert!(!help.contains(JWT_SECRET) && !help.contains("hunter2"));
}
