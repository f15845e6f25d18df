//! How long a reader waits for a mail: from the call of `RequestPasswordReset` to the mail in the
//! inbox of the SMTP server, at 50 calls a second.
//!
//! `cargo bench` starts Postgres, Kafka and an SMTP server with `tests/run`, and runs the service
//! and the mailer as release builds. Calls are made at fixed times, and measured from them. A mail
//! is in the inbox when the server's answer to it passes a proxy before the mailer. In the end the
//! inboxes are counted.

#[path = "../../tests/end_to_end/kafka.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod kafka;
#[path = "../../tests/end_to_end/platform.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod platform;
#[path = "../../tests/end_to_end/smtp.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod smtp;
mod taken;
#[path = "../../tests/end_to_end/wait.rs"]
mod wait;

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use self::{
    platform::Platform,
    smtp::{first, inbox},
    taken::Taken,
    wait::{address, eventually, unique},
};

/// Between two calls.
const INTERVAL: Duration = Duration::from_millis(20);

const USERS: usize = 500;

/// As many as the service accepts for one address in an hour.
const CALLS_PER_USER: usize = 3;

/// Registrations at one time.
const REGISTRATIONS: usize = 8;

fn main() {
    if env::var_os("TEST_SMTP_URL").is_none() {
        rerun_with_services();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut times = runtime.block_on(measure());
    times.sort();
    let ms = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("| figure | measured | goal |\n|---|---|---|");
    println!(
        "| RequestPasswordReset to a mail in the inbox at 50/s, p50; p99; slowest of {} | \
         {:.1}; {:.1}; {:.1} ms | < 50; < 250 ms |",
        times.len(),
        ms(50),
        ms(99),
        ms(100)
    );
}

/// Builds the service, and starts this program again with services.
fn rerun_with_services() -> ! {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--bin", "auth-service"])
        .current_dir(&home)
        .status();
    assert!(built.expect("cargo runs").success());
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let error = Command::new(home.join("tests/run"))
        .args(["smtp", "with"])
        .arg(env::current_exe().expect("a path"))
        .env(
            "AUTH_SERVICE_BIN",
            home.join(target).join("release/auth-service"),
        )
        .exec();
    panic!("tests/run: {error}");
}

async fn measure() -> Vec<Duration> {
    let database = env::var("TEST_DATABASE_URL").expect("`tests/run` sets it");
    let platform = Platform::start_on(Some(database)).await;
    let platform = platform.expect("`tests/run` starts the services");
    let taken = Taken::start().await;
    let _mailer = platform.mailer(&taken.url());
    warm_up(&platform).await;
    let users = register(&platform).await;

    let client = platform.recovery().await;
    let mut calls = JoinSet::new();
    let start = Instant::now();
    for (call, email) in (0_u32..).zip([&users[..]; CALLS_PER_USER].concat()) {
        let at = start + INTERVAL * call;
        tokio::time::sleep_until(at.into()).await;
        taken.expect(&email, at);
        let client = client.clone();
        calls.spawn(platform::request_reset(client, email, String::new()));
    }
    while let Some(called) = calls.join_next().await {
        called.unwrap();
    }
    let times = eventually(async || taken.times(USERS * CALLS_PER_USER)).await;
    for email in &users {
        assert_eq!(inbox(email).await.len(), CALLS_PER_USER);
    }
    times
}

/// The first mail waits until the mailer has joined the group.
async fn warm_up(platform: &Platform) {
    let email = address("first");
    platform.register(&email).await;
    platform.request_reset(&email, "").await;
    first(&email).await;
}

async fn register(platform: &Platform) -> Vec<String> {
    let users: Vec<_> = (0..USERS).map(|_| address("user")).collect();
    for some in users.chunks(REGISTRATIONS) {
        let mut calls = JoinSet::new();
        for email in some {
            calls.spawn(platform::register(platform.auth().await, email.clone()));
        }
        while let Some(called) = calls.join_next().await {
            called.unwrap();
        }
    }
    users
}
