//! Guessing becomes slow: each wrong password counts for the account, for the address of the
//! caller and for the pair of both, on all replicas together, before its hash.

mod address;
mod clocks;
mod housekeeping;
mod limits;
mod owner;
mod races;

use std::time::Duration;

use auth_service::proto;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Status};

use self::Outcome::{In, Wait, Wrong};
use crate::harness::{
    INTERNAL_TOKEN, Service, TestDatabase, bearer, error_line, login, register, retry_after,
    with_bearer,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const MICROSECOND: Duration = Duration::from_micros(1);
const ANA: &str = "ana@example.com";

/// The default limits, which the harness switches off.
const DEFAULTS: [&str; 10] = [
    "--throttle-free-per-pair",
    "5",
    "--throttle-free-per-account",
    "20",
    "--throttle-free-per-address",
    "50",
    "--throttle-daily-per-account",
    "100",
    "--throttle-registrations-per-address",
    "50",
];

/// The outcome of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    In,
    Wrong,
    Wait(Duration),
}

impl Outcome {
    fn of<T>(answer: Result<T, Status>) -> Self {
        let Err(status) = answer else { return In };
        match &*error_line(&status) {
            "Unauthenticated INVALID_CREDENTIALS: wrong e-mail address or password" => Wrong,
            "ResourceExhausted TOO_MANY_ATTEMPTS: too many attempts, try again later" => {
                Wait(retry_after(&status).expect("RetryInfo"))
            }
            other => panic!("{other}"),
        }
    }
}

/// A request that the gateway passes on for a client with this address.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = with_bearer(message, INTERNAL_TOKEN);
    let metadata = request.metadata_mut();
    if !address.is_empty() {
        metadata.insert("x-client-address", address.parse().expect("ASCII"));
    }
    request
}

/// Like `from`, for a signed-in user.
fn by_user<T>(access_token: &str, address: &str, message: T) -> Request<T> {
    let mut request = from(address, message);
    let token = bearer(access_token).parse().expect("ASCII");
    request.metadata_mut().append("authorization", token);
    request
}

fn wrong(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        password: "wrong".to_owned(),
        ..login(email)
    }
}

/// Sends a wrong password for an account from an address (none if it is empty).
async fn guess(service: &Service, email: &str, address: &str) -> Outcome {
    let request = from(address, wrong(email));
    Outcome::of(service.client().login(request).await)
}

/// Logs in with the right password.
async fn enter(service: &Service, email: &str, address: &str) -> Outcome {
    let request = from(address, login(email));
    Outcome::of(service.client().login(request).await)
}

/// Sends wrong passwords until one must wait. Returns how many were checked, and the wait.
async fn exhaust(
    service: &Service,
    email: &str,
    addresses: impl Fn(usize) -> String,
) -> (usize, Duration) {
    for n in 0.. {
        match guess(service, email, &addresses(n)).await {
            Wrong => {}
            Wait(wait) => return (n, wait),
            In => panic!("a wrong password"),
        }
    }
    unreachable!("a loop without end")
}

fn always(address: &str) -> impl Fn(usize) -> String + use<> {
    let address = address.to_owned();
    move |_| address.clone()
}

fn each_its_own(n: usize) -> String {
    format!("198.51.{}.{}", n / 250, n % 250)
}

/// A query on the counter of an account without an address.
fn of_account(service: &Service, what: &str, email: &str) -> String {
    let key = Sha256::digest(format!("account\0{email}\0"));
    let key = service.database.bytes(&key);
    format!("SELECT {what} FROM login_throttle WHERE key_hash = {key}")
}

/// A service with the default limits and the account of Ana.
async fn with_ana(database: TestDatabase) -> Service {
    let service = Service::start(database, &DEFAULTS).await;
    service
        .client()
        .register(register(ANA))
        .await
        .expect("registers");
    service
}

async fn with_daily_limit(database: TestDatabase, limit: &str) -> Service {
    let options = [&DEFAULTS[..6], &["--throttle-daily-per-account", limit]].concat();
    let service = Service::start(database, &options).await;
    let registered = service.client().register(register(ANA)).await;
    registered.expect("registers");
    service
}
