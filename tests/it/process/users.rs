//! `auth-service users`: each command as a process beside the service.

mod acts;
mod export;
mod import;
mod moving_in;
mod refusals;
mod show;

use std::sync::Arc;

use auth_service::{app::SystemClock, model::Clock as _, proto};
use serde_json::Value;
use tokio::process::Command;

use crate::harness::{DATA_KEY, Ended, ManualClock, Process, Service, TestDatabase};

const ANA: &str = "ana@example.com";
const BEN: &str = "ben@example.com";
/// No account has it.
const STRANGER: &str = "0190b2a4-7f3c-7d2d-905e-1beca7432624";

/// A service whose clock shows the time of the commands.
async fn service_now(database: TestDatabase, options: &[&str]) -> Service {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    Service::start_at(database, clock, options).await
}

/// Runs a command, divided at its spaces, with only the variables that it reads.
async fn users(database: &TestDatabase, command: &str) -> Ended {
    users_with_key(database, command, DATA_KEY).await
}

async fn users_with_key(database: &TestDatabase, command: &str, data_key: &str) -> Ended {
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("DATA_KEY", data_key)];
    let arguments: Vec<_> = ["users"].into_iter().chain(command.split(' ')).collect();
    let ended = Process::run(&std::env::temp_dir(), &arguments, &variables).await;
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

/// The stderr of a script of the shell, in which `$users` begins a command.
async fn shell(database: &TestDatabase, script: &str) -> String {
    let service = env!("CARGO_BIN_EXE_auth-service");
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("service", service),
        ("users", &format!("{service} users")),
        ("DATABASE_URL", &database.url()),
        ("DATA_KEY", DATA_KEY),
    ];
    let mut command = Command::new("sh");
    let command = command.args(["-c", script]).env_clear().envs(variables);
    let output = command.output().await.expect("the shell runs");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// The output of a command that succeeds.
async fn done(database: &TestDatabase, command: &str) -> String {
    let ended = users(database, command).await;
    assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
    ended.stdout
}

async fn json(database: &TestDatabase, command: &str) -> Value {
    let output = done(database, &format!("{command} --json")).await;
    assert_eq!(output.lines().count(), 1, "{output}");
    serde_json::from_str(&output).expect("JSON")
}

/// The events of the commands, in the order of their versions.
async fn events_of_cli(database: &TestDatabase) -> Vec<proto::user_event::Payload> {
    let mut events = database.events().await;
    events.retain(|event| event.actor == "admin:cli");
    events.sort_by_key(|event| event.user_version);
    events
        .into_iter()
        .filter_map(|event| event.payload)
        .collect()
}
