//! The configuration as a whole; its parts are tested in the files below.

use std::{fs, os::unix::fs::PermissionsExt, thread};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::{auth::Lifetimes, model::ThrottleLimits};

mod args;
mod database;
mod edge;
mod embedded;
mod events;
mod kafka;
mod readme;
mod scopes;
mod secrets;
mod tls;
mod warnings;

const CA: &str = include_str!("tests/ca.pem");
const KEY: &str = "a-key-of-exactly-32-bytes-aaaaaa";
const OTHER_KEY: &str = "b-key-of-exactly-32-bytes-bbbbbb";
const DATA_KEY: &str = "c-key-of-exactly-32-bytes-cccccc";
/// With a `DATABASE_URL`, so that nothing is generated.
const COMPLETE: &str = "--database-url sqlite://auth.db --jwt-secret a-key-of-exactly-32-bytes-aaaaaa \
     --data-key c-key-of-exactly-32-bytes-cccccc";

/// Every variable, the files of secrets too.
fn names() -> impl Iterator<Item = String> {
    variables().flat_map(Declaration::names)
}

fn flag(variable: &str) -> String {
    format!("--{}", variable.to_lowercase().replace('_', "-"))
}

fn load_at(base: &Path, line: &str) -> Result<Config, Vec<Problem>> {
    Config::load(&Args::for_test(line).unwrap(), base)
}

/// The configuration of `line` added to a complete one.
fn load(line: &str) -> Config {
    let base = TempDir::new().unwrap();
    load_at(base.path(), &format!("{COMPLETE} {line}")).unwrap()
}

fn lines(result: Result<Config, Vec<Problem>>) -> Vec<String> {
    let problems = result.unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

/// The problems of `line` alone.
fn problems_alone(line: &str) -> Vec<String> {
    let base = TempDir::new().unwrap();
    lines(load_at(base.path(), line))
}

/// The problems of `line` alone that `serve` or `edge` finds.
fn problems_of_both(base: &Path, line: &str) -> Vec<String> {
    let args = Args::for_test(line).unwrap();
    let problems = [Config::load(&args, base).err(), edge(&args).err()];
    let problems = problems.iter().flatten().flatten();
    problems.map(ToString::to_string).collect()
}

/// The problems of `line` added to a complete configuration.
fn problems(line: &str) -> Vec<String> {
    problems_alone(&format!("{COMPLETE} {line}"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = load("");
    assert_eq!(config.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(config.admin_addr.to_string(), "127.0.0.1:9464");
    assert_eq!(config.request_timeout, Duration::from_secs(10));
    let exposure = Exposure {
        reflection: true,
        plaintext_keys: false,
    };
    assert_eq!(config.exposure, exposure);
    assert_eq!(config.database.max_connections, 16);
    assert_eq!(config.auth.issuer, "realchat-auth");
    assert_eq!(config.auth.audience, "realchat");
    let lifetimes = Lifetimes {
        access_token: Duration::from_hours(1),
        refresh_token: Duration::from_hours(24),
        session: Duration::from_hours(30 * 24),
        retry_window: Duration::from_secs(30),
        device_token: Duration::from_hours(90 * 24),
    };
    assert_eq!(config.auth.lifetimes, lifetimes);
    let passwords = &config.passwords;
    let cores = thread::available_parallelism().unwrap();
    assert_eq!(
        (passwords.cost, passwords.threads, passwords.min_score),
        (12, cores, 2)
    );
    assert_eq!(passwords.max_wait, Duration::from_secs(2));
    assert_eq!(passwords.context_words, ["realchat"]);
    assert!(passwords.blocklist.is_none());
    let throttle = ThrottleLimits {
        free_per_device: 10,
        free_per_account: 20,
        free_per_network: 50,
        registrations_per_network: 50,
        daily_per_account: 100,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_mins(15),
        fade: Duration::from_mins(30),
        network_fade: Duration::from_secs(30),
    };
    assert_eq!(config.auth.throttle, throttle);
    assert!(config.internal_callers.names().next().is_none() && config.kafka.is_none());
    assert!(config.embedded.is_none());
    assert_eq!(config.log.filter.to_string(), "info");
}

#[test]
fn reflection_depends_on_the_listener_unless_it_is_set() {
    for (line, expected) in [
        ("", true),
        ("--grpc-addr [::1]:1", true),
        ("--grpc-addr [::ffff:127.0.0.1]:1", true),
        ("--grpc-addr 0.0.0.0:1", false),
        ("--grpc-addr [::]:1", false),
        ("--grpc-addr 192.0.2.1:1", false),
        ("--grpc-addr 192.0.2.1:1 --grpc-reflection true", true),
        ("--grpc-reflection false", false),
    ] {
        assert_eq!(load(line).exposure.reflection, expected, "{line}");
    }
}

#[test]
fn every_default_is_a_right_value() {
    for variable in variables() {
        if let Default::Text(default) = variable.default {
            let flag = flag(variable.name);
            load(&format!("{flag}={default} --kafka-brokers a:1"));
        }
    }
}

#[test]
fn each_bad_value_is_one_line_that_says_what_is_right() {
    for line in include_str!("tests/bad_values.txt").lines() {
        let (options, problem) = line.split_once(" => ").unwrap();
        assert_eq!(problems(options), [problem], "{options}");
    }
}

#[test]
fn traces_go_to_their_own_endpoint_unless_opentelemetry_is_disabled() {
    let all = "--otel-exporter-otlp-endpoint";
    let traces = "--otel-exporter-otlp-traces-endpoint";
    for (line, expected) in [
        (format!("{all} http://a:4317"), Some("http://a:4317")),
        (format!("{all} https://a"), Some("https://a")),
        (
            format!("{all} http://[::1]:4318/v1/traces?x=y"),
            Some("http://[::1]:4318"),
        ),
        (format!("{all} http://a:4317/"), Some("http://a:4317")),
        (
            format!("{all} http://a:1 {traces} http://b:2/v1"),
            Some("http://b:2"),
        ),
        (format!("{all} http://a:1 {traces}="), Some("http://a:1")),
        (format!("{all}= {traces} http://b:2"), Some("http://b:2")),
        (format!("{all} http://a:1 --otel-sdk-disabled TRUE"), None),
        (
            format!("{all} http://a:1 --otel-sdk-disabled no"),
            Some("http://a:1"),
        ),
    ] {
        assert_eq!(load(&line).log.traces.as_deref(), expected, "{line}");
    }
}

#[test]
fn every_problem_is_reported_in_one_run() {
    let found = problems_alone("--database-url mysql://x --bcrypt-cost 1 --log-format x");
    let expected = [
        "DATABASE_URL: must begin with sqlite:// or postgres://",
        "JWT_SECRET: is required when DATABASE_URL is set",
        "DATA_KEY: is required when DATABASE_URL is set",
        "BCRYPT_COST: must be a whole number from 10 to 16",
        "LOG_FORMAT: must be one of text, json",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_problem_shows_a_value() {
    let needles = [
        "needle",
        "needle,needle",
        "postgres://needle:needle@needle:needle/needle?needle=needle",
        "sqlite://needle/needle",
        "base64:needle",
    ];
    for needle in needles {
        let args: Vec<_> = names()
            .map(|name| format!("{}={needle}", flag(&name)))
            .collect();
        // Both forms of a secret hide each other's problems: once without files, once with.
        for suffix in ["-file=", "\0"] {
            let line = args
                .iter()
                .filter(|arg| !arg.contains(suffix))
                .fold(String::new(), |line, arg| line + " " + arg);
            let base = TempDir::new().unwrap();
            let found = problems_of_both(base.path(), &line);
            assert!(found.len() > 25, "{found:?}");
            let is_safe = |line: &String| !line.contains("needle") && !line.contains('\n');
            assert!(found.iter().all(is_safe), "{found:?}");
        }
    }
    let found = problems(
        "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL --kafka-sasl-password-file needle --jwt-next-secret-file needle",
    );
    assert!(!found.concat().contains("needle"), "{found:?}");
}

#[test]
fn an_empty_variable_is_a_problem_but_one_of_opentelemetry_is_not_set() {
    let (otel, names): (Vec<_>, Vec<_>) = names().partition(|name| name.starts_with("OTEL_"));
    let empty: Vec<_> = otel.iter().map(|name| flag(name) + "=").collect();
    assert_eq!(load(&empty.join(" ")).log.traces, None);
    for name in names {
        let base = TempDir::new().unwrap();
        let found = problems_of_both(base.path(), &format!("{}=", flag(&name)));
        let prefix = format!("{name}: ");
        let mut about_it = found.iter().filter(|line| line.starts_with(&prefix));
        assert!(about_it.next().is_some(), "{name} {found:?}");
        let mut written = fs::read_dir(base.path()).unwrap();
        let is_of_edge = name.starts_with("EDGE_") || name.starts_with("AUTH_");
        assert!(is_of_edge || written.next().is_none(), "{name}");
    }
}
