//! The commands besides `serve`, each as a process.

use std::{fs, net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::harness::{
    Authority, DATA_KEY, Ended, INTERNAL_TOKEN, JWT_SECRET, Kafka, Process, Service, TestDatabase,
    bearer, both, signing_keys,
};

const NEXT_SECRET: &str = "the-next-secret-of-the-tests-is-32-bytes";

async fn run(folder: &Path, command: &str, variables: &[(&str, &str)]) -> Ended {
    let arguments: Vec<_> = command.split(' ').collect();
    Process::run(folder, &arguments, variables).await
}

/// Exit code and output of `check-config` with a database, a key and these variables.
async fn check(database: &TestDatabase, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let url = database.url();
    let complete = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
    ];
    let output = run(
        folder.path(),
        "check-config",
        &[&complete, variables].concat(),
    )
    .await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!output.stderr.contains("panicked"));
    (output.code, output.stdout)
}

fn assert_says(stdout: &str, lines: &[&str]) {
    for line in lines {
        assert!(stdout.contains(line), "no {line:?} in {stdout}");
    }
}

both! {
    async fn check_config_says_what_serve_would_do_to_the_database(database: TestDatabase) {
        // The second run shows that the first changed nothing.
        for _ in 0..2 {
            let (code, stdout) = check(&database, &[]).await;
            assert_eq!(code, Some(0), "{stdout}");
            let expected = database.dialect("ok      DATABASE_URL: would make the file", "migrations");
            assert_says(&stdout, &[expected, "KAFKA_BROKERS: not set"]);
        }
        let url = database.url();
        let migrated = run(&std::env::temp_dir(), "migrate", &[("DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, Some(0));
        let (code, stdout) = check(&database, &[]).await;
        assert_eq!(code, Some(0), "{stdout}");
        assert_says(&stdout, &["ok      DATABASE_URL: answers, is up to date"]);

        database
            .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000001')")
            .await;
        let (code, stdout) = check(&database, &[]).await;
        assert_eq!(code, Some(1));
        assert_says(&stdout, &["FAILED  DATABASE_URL: ", "20991231000001"]);
    }

    async fn check_config_tries_kafka_and_says_who_may_do_what(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else { return };
        let tokens = format!("gateway:{INTERNAL_TOKEN}");
        let brokers = [("KAFKA_BROKERS", kafka.brokers.as_str()), ("INTERNAL_TOKENS", &tokens)];
        let topic = ("KAFKA_TOPIC", kafka.topic.as_str());
        let (code, stdout) = check(&database, &[&brokers[..], &[topic]].concat()).await;
        assert_eq!(code, Some(0), "{stdout}");
        assert_says(&stdout, &[" partitions", "gateway (keys+address)"]);
        assert!(!stdout.contains(INTERNAL_TOKEN) && !stdout.contains(JWT_SECRET));

        let other = ("KAFKA_TOPIC", "there-is-no-such-topic");
        let (code, stdout) = check(&database, &[&brokers[..], &[other]].concat()).await;
        assert_eq!(code, Some(1));
        assert_says(&stdout, &["FAILED  KAFKA_BROKERS: the topic there-is-no-such-topic"]);
    }

    async fn a_healthcheck_passes_while_the_service_is_ready(service: Service) {
        let output = healthcheck(service.admin_addr).await;
        assert_eq!((output.code, output.stdout), (Some(0), "ready\n".to_owned()));
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let output = healthcheck(unused).await;
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.starts_with("no answer from ADMIN_ADDR"));
    }

    async fn a_jwk_set_has_the_keys_that_the_service_hands_out(database: TestDatabase) {
        let folder = TempDir::new().unwrap();
        let secrets = [("JWT_SECRET", JWT_SECRET), ("JWT_NEXT_SECRET", NEXT_SECRET)];
        let output = run(folder.path(), "keys jwks", &secrets).await;
        assert!(output.stderr.contains("as private as JWT_SECRET"));
        let set: Value = serde_json::from_str(&output.stdout).unwrap();

        let service = Service::start(database, &["--jwt-next-secret", NEXT_SECRET]).await;
        let keys = signing_keys(service.channel(), Some(&bearer(INTERNAL_TOKEN))).await;
        let keys = keys.unwrap().verification_keys;
        let expected: Vec<_> = keys
            .iter()
            .map(|key| serde_json::json!({
                "kty": "oct", "use": "sig", "alg": "HS256",
                "kid": key.key_id, "k": BASE64URL.encode(&key.secret),
            }))
            .collect();
        assert_eq!(set["keys"], Value::from(expected));
    }
}

async fn healthcheck(addr: SocketAddr) -> Ended {
    let addr = addr.to_string();
    run(
        &std::env::temp_dir(),
        "healthcheck",
        &[("ADMIN_ADDR", &addr)],
    )
    .await
}

#[tokio::test]
async fn a_healthcheck_fails_and_says_why_while_the_service_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\nnot ready";
        stream.write_all(answer).await.unwrap();
    });
    let output = healthcheck(addr).await;
    assert_eq!(output.code, Some(1));
    assert_eq!(output.stderr, "not ready\n");
}

#[tokio::test]
async fn check_config_of_the_embedded_default_makes_nothing() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), "check-config", &[]).await;
    assert_eq!(output.code, Some(0));
    assert_says(
        &output.stdout,
        &[
            "would make data/auth.db",
            "JWT_SECRET: would be generated",
            "DATA_KEY: would be generated",
            "OTEL_EXPORTER_OTLP_ENDPOINT: not set",
        ],
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn check_config_reports_every_problem_and_ends_with_64() {
    let folder = TempDir::new().unwrap();
    let variables = [
        ("BCRYPT_COST", "1"),
        ("JWT_SECRET", "short"),
        ("TLS_KEY_FILE", "x"),
    ];
    let output = run(folder.path(), "check-config", &variables).await;
    assert_eq!(output.code, Some(64));
    let stderr = output.stderr;
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn check_config_tries_certificates_and_warns_of_what_may_be_a_mistake() {
    let folder = TempDir::new().unwrap();
    Authority::new()
        .sign(&["auth.internal"])
        .write(folder.path());
    let tls = [("TLS_CERT_FILE", "cert.pem"), ("TLS_KEY_FILE", "key.pem")];
    let output = run(folder.path(), "check-config", &tls).await;
    assert_eq!(output.code, Some(0));
    let expected = [
        "TLS, the certificate of auth.internal",
        "WARNING TLS_KEY_FILE: ",
    ];
    assert_says(&output.stdout, &expected);
    let open = [
        ("GRPC_ADDR", "0.0.0.0:0"),
        ("ADMIN_ADDR", "0.0.0.0:0"),
        ("ACCESS_TOKEN_TTL", "30d"),
        ("JWT_SECRET", "changemechangemechangemechangeme"),
        ("THROTTLE_FREE_PER_PAIR", "5"),
    ];
    let output = run(folder.path(), "check-config", &open).await;
    let expected = [
        "WARNING GRPC_ADDR: ",
        "WARNING ADMIN_ADDR: ",
        "WARNING ACCESS_TOKEN_TTL: ",
        "WARNING JWT_SECRET: ",
        "WARNING THROTTLE_FREE_PER_PAIR: IS NO LONGER READ: use THROTTLE_FREE_PER_DEVICE",
        "GRPC_REFLECTION: reflection is not served",
        "ALLOW_PLAINTEXT_KEYS: keys are served over TLS or loopback",
    ];
    assert_says(&output.stdout, &expected);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_found() {
    let variables = [
        ("DATABASE_URL", "sqlite:///proc/auth.db"),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
    ];
    let output = run(&std::env::temp_dir(), "check-config", &variables).await;
    assert_eq!(output.code, Some(1));
    assert_says(
        &output.stdout,
        &["FAILED  DATABASE_URL: cannot write to its folder"],
    );
}

#[tokio::test]
async fn looking_for_events_makes_no_database() {
    let folder = TempDir::new().unwrap();
    let elsewhere = [("DATABASE_URL", "sqlite://auth.db")];
    for (variables, what) in [
        (&elsewhere[..], "names a file that does not exist"),
        (&[], "is not set, and there is no data/auth.db"),
    ] {
        for command in ["outbox list", "outbox requeue --all"] {
            let output = run(folder.path(), command, variables).await;
            assert_eq!(output.code, Some(64));
            let stderr = output.stderr;
            assert!(
                stderr.starts_with(&format!("DATABASE_URL: {what}")),
                "{stderr}"
            );
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_generated_key_is_another_each_time_and_fits_jwt_secret() {
    let folder = TempDir::new().unwrap();
    let generate = async || run(folder.path(), "keys generate", &[]).await.stdout;
    let (one, two) = (generate().await, generate().await);
    assert_ne!(one, two);
    for key in [one, two] {
        let output = run(folder.path(), "keys jwks", &[("JWT_SECRET", key.trim())]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_jwk_set_of_nothing_is_refused_and_makes_nothing() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), "keys jwks", &[]).await;
    assert_eq!(output.code, Some(64));
    assert!(output.stderr.starts_with("JWT_SECRET: is not set") && output.stdout.is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn help_and_completions_know_all_commands_and_have_no_colours() {
    let folder = TempDir::new().unwrap();
    let commands = [
        "serve",
        "migrate",
        "check-config",
        "healthcheck",
        "outbox",
        "users",
        "keys",
    ];
    for command in [
        "--help",
        "completions bash",
        "completions zsh",
        "completions fish",
    ] {
        let output = run(folder.path(), command, &[]).await;
        assert_eq!(output.code, Some(0), "{command}");
        let text = output.stdout;
        assert_says(&text, &commands);
        assert!(!text.contains('\u{1b}'), "{command}");
    }
    let bash = run(folder.path(), "completions bash", &[]).await.stdout;
    let states = bash
        .lines()
        .filter_map(|line| line.trim().strip_prefix("cmd=\""));
    for state in states
        .map(|state| state.trim_end_matches('"'))
        .filter(|s| !s.is_empty())
    {
        assert!(
            bash.contains(&format!(" {state})\n")),
            "{state} completes nothing"
        );
    }
    let help = run(folder.path(), "--help", &[]).await.stdout;
    assert_says(&help, &["Exit codes:", "  64  wrong usage"]);
    let short = run(folder.path(), "outbox list --help", &[]).await.stdout;
    assert!(short.contains("DATABASE_URL") && !short.contains("BCRYPT_COST"));
    let users = run(folder.path(), "users suspend --help", &[]).await.stdout;
    assert_says(
        &users,
        &["DATABASE_URL", "DATA_KEY", "ACCESS_TOKEN_TTL", "LOG"],
    );
    assert!(!users.contains("JWT_ISSUER") && !users.contains("BCRYPT_COST"));
}
