//! What `serve` and `check-config` warn of.

use super::*;
use crate::model::Timestamp;

/// A configuration with nothing to warn of.
const QUIET: &str = "--internal-tokens gateway:an-internal-token-of-32-characters";

fn warnings_of(line: &str) -> Vec<String> {
    let args = Args::for_test(line).unwrap();
    let config = Config::check(&args, Path::new("")).unwrap();
    config.warnings(Timestamp::from_micros(0))
}

/// The variables that a configuration is warned of.
fn warned(line: &str) -> Vec<String> {
    let warnings = warnings_of(line);
    let names = warnings
        .iter()
        .map(|warning| warning.split(':').next().unwrap_or_default());
    names.map(str::to_owned).collect()
}

#[test]
fn nothing_is_said_of_a_safe_configuration() {
    assert_eq!(warned(&format!("{COMPLETE} {QUIET}")), [""; 0]);
    assert_eq!(warned(""), [""; 0]);
}

#[test]
fn what_is_open_to_the_network_is_warned_of() {
    for (option, name) in [
        ("--admin-addr 0.0.0.0:9464", "ADMIN_ADDR"),
        ("--admin-addr [::]:9464", "ADMIN_ADDR"),
        ("--admin-addr 10.1.2.3:9464", "ADMIN_ADDR"),
        ("--grpc-addr 0.0.0.0:50051", "GRPC_ADDR"),
        ("--kafka-brokers kafka:9092", "KAFKA_SECURITY_PROTOCOL"),
        (
            "--kafka-brokers localhost:9092,10.0.0.1:9092",
            "KAFKA_SECURITY_PROTOCOL",
        ),
    ] {
        assert_eq!(
            warned(&format!("{COMPLETE} {QUIET} {option}")),
            [name],
            "{option}"
        );
    }
    for local in [
        "--admin-addr [::1]:9464",
        "--kafka-brokers localhost:1,127.0.0.2:1,[::1]:1",
    ] {
        assert_eq!(
            warned(&format!("{COMPLETE} {QUIET} {local}")),
            [""; 0],
            "{local}"
        );
    }
    let sasl = |mechanism| {
        let sasl = "--kafka-brokers kafka:9092 --kafka-security-protocol SASL_PLAINTEXT \
            --kafka-sasl-username me --kafka-sasl-password secret --kafka-sasl-mechanism";
        warnings_of(&format!("{COMPLETE} {QUIET} {sasl} {mechanism}")).concat()
    };
    assert!(sasl("PLAIN").contains("THE PASSWORD CROSSES THE NETWORK"));
    assert!(sasl("SCRAM-SHA-512").contains("EVENTS CROSS THE NETWORK"));
}

#[test]
fn a_remote_database_that_is_not_verified_is_warned_of() {
    let with = |url: &str| {
        warned(&format!(
            "--database-url {url} --jwt-secret {KEY} --data-key {DATA_KEY} {QUIET}"
        ))
    };
    for url in [
        "postgres://db.internal/auth",
        "postgres://db.internal/auth?sslmode=disable",
        "postgres://db.internal/auth?sslmode=prefer",
        "postgres://db.internal/auth?sslmode=require",
        "postgres://localhost,10.0.0.2/auth",
        "postgres://localhost/auth?hostaddr=10.0.0.2",
    ] {
        assert_eq!(with(url), ["DATABASE_URL"], "{url}");
    }
    let folder = TempDir::new().unwrap();
    let ca = file(&folder, "ca.pem", CA);
    for url in [
        &format!("postgres://db.internal/auth?sslmode=verify-full&sslrootcert={ca}"),
        "postgres://localhost/auth",
        "postgres://127.0.0.1,[::1]/auth?sslmode=disable",
        "postgres:///auth?host=/var/run/postgresql",
    ] {
        assert_eq!(with(url), [""; 0], "{url}");
    }
}

#[test]
fn what_protects_less_than_the_defaults_is_warned_of() {
    for (option, name) in [
        ("--access-token-ttl 30d", "ACCESS_TOKEN_TTL"),
        ("--access-token-ttl 25h", "ACCESS_TOKEN_TTL"),
        ("--password-min-score 0", "PASSWORD_MIN_SCORE"),
        (
            "--throttle-free-per-account 1000000",
            "THROTTLE_FREE_PER_ACCOUNT",
        ),
        (
            "--throttle-daily-per-account 1000000",
            "THROTTLE_FREE_PER_ACCOUNT",
        ),
        (
            "--throttle-free-per-device 1001",
            "THROTTLE_FREE_PER_DEVICE",
        ),
        ("--throttle-fade 86s", "THROTTLE_FREE_PER_DEVICE"),
        ("--throttle-longest-wait 86s", "THROTTLE_FREE_PER_DEVICE"),
        (
            "--jwt-next-secret changemechangemechangemechangeme",
            "JWT_NEXT_SECRET",
        ),
        (
            "--jwt-next-secret abcdefghijklmnopqrstuvwxyz123456",
            "JWT_NEXT_SECRET",
        ),
        (
            "--jwt-previous-secrets supersecretsupersecretsupersecret",
            "JWT_PREVIOUS_SECRETS",
        ),
        (
            "--data-previous-keys supersecretsupersecretsupersecret",
            "DATA_PREVIOUS_KEYS",
        ),
    ] {
        let line = if option.contains("access-token-ttl") {
            "--session-max-age 31d"
        } else {
            ""
        };
        assert_eq!(
            warned(&format!("{COMPLETE} {QUIET} {option} {line}")),
            [name],
            "{option}"
        );
    }
    let data_key = "--data-key changemechangemechangemechangeme";
    let line = format!("--database-url sqlite://x --jwt-secret {KEY} {data_key} {QUIET}");
    assert_eq!(warned(&line), ["DATA_KEY"]);
    for tokens in [
        "",
        "--internal-tokens gateway:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert_eq!(warned(&format!("{COMPLETE} {tokens}")), ["INTERNAL_TOKENS"]);
    }
    let random = "base64:Iw3lFT2/9o7cZrYd0xqJkPp5uVn1sA8tRhEe6Wm4bLY=";
    for fine in [
        "--access-token-ttl 24h",
        "--throttle-free-per-device 1000 --throttle-fade 87s --throttle-longest-wait 87s",
        &format!("--jwt-next-secret {random}"),
    ] {
        assert_eq!(
            warned(&format!("{COMPLETE} {QUIET} {fine}")),
            [""; 0],
            "{fine}"
        );
    }
}

#[test]
fn one_password_for_kafka_and_the_database_is_warned_of() {
    let kafka = "--kafka-brokers localhost:1 --kafka-security-protocol SASL_PLAINTEXT \
        --kafka-sasl-mechanism PLAIN --kafka-sasl-username me --kafka-sasl-password secret";
    let url = "--database-url postgres://me:secret@localhost/auth";
    let warned = warned(&format!(
        "{url} --jwt-secret {KEY} --data-key {DATA_KEY} {QUIET} {kafka}"
    ));
    assert_eq!(warned, ["KAFKA_SASL_PASSWORD"]);
}
