//! Guessing becomes slow, and nobody can lock an owner out. Failures of a known device count for
//! the device, others for the account and the caller's network, on all replicas together, before
//! the hash.

mod address;
mod clocks;
mod flush;
mod housekeeping;
mod keys;
mod limits;
mod older_version;
mod owner;
mod races;
mod registrations;

use std::time::Duration;

use auth_service::proto;
use tonic::{Request, Status};

use self::Outcome::{In, Wait, Wrong};
use crate::harness::{
    INTERNAL_TOKEN, Service, TestDatabase, bearer, data_subkey, error_line, hmac, login, register,
    retry_after, with_bearer,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const MICROSECOND: Duration = Duration::from_micros(1);
const ANA: &str = "ana@example.com";

/// The default limits, which the harness switches off.
const DEFAULTS: [(&str, &str); 5] = [
    ("--throttle-free-per-device", "10"),
    ("--throttle-free-per-account", "20"),
    ("--throttle-free-per-network", "50"),
    ("--throttle-daily-per-account", "100"),
    ("--throttle-registrations-per-network", "50"),
];

/// The default limits but for these.
fn limits<'a>(changed: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let is_changed = |name: &str| changed.iter().any(|(changed, _)| *changed == name);
    let defaults = DEFAULTS.iter().filter(|(name, _)| !is_changed(name));
    let all = defaults.chain(changed);
    all.flat_map(|(name, value)| [*name, *value]).collect()
}

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

/// The request of a device with this token.
fn on_device(device_token: &str, request: proto::LoginRequest) -> proto::LoginRequest {
    proto::LoginRequest {
        device_token: device_token.to_owned(),
        ..request
    }
}

async fn send(service: &Service, address: &str, request: proto::LoginRequest) -> Outcome {
    Outcome::of(service.client().login(from(address, request)).await)
}

/// Sends a wrong password for an account from an address (none if it is empty).
async fn guess(service: &Service, email: &str, address: &str) -> Outcome {
    send(service, address, wrong(email)).await
}

/// Logs in with the right password on a device that is not known.
async fn enter(service: &Service, email: &str, address: &str) -> Outcome {
    send(service, address, login(email)).await
}

/// The token of a device on which the account has logged in.
async fn device_of(service: &Service, email: &str) -> String {
    let answer = service.client().login(login(email)).await;
    answer
        .expect("the password is right")
        .into_inner()
        .device_token
}

/// Sends requests until one must wait. Returns how many were checked, and the wait.
async fn exhaust_with(
    service: &Service,
    request: &proto::LoginRequest,
    addresses: impl Fn(usize) -> String,
) -> (usize, Duration) {
    for n in 0.. {
        match send(service, &addresses(n), request.clone()).await {
            Wrong => {}
            Wait(wait) => return (n, wait),
            In => panic!("a wrong password"),
        }
    }
    unreachable!("a loop without end")
}

async fn exhaust(
    service: &Service,
    email: &str,
    addresses: impl Fn(usize) -> String,
) -> (usize, Duration) {
    exhaust_with(service, &wrong(email), addresses).await
}

fn always(address: &str) -> impl Fn(usize) -> String + use<> {
    let address = address.to_owned();
    move |_| address.clone()
}

fn each_its_own(n: usize) -> String {
    format!("198.51.{}.{}", n / 250, n % 250)
}

/// A query on the counter of an account.
fn of_account(service: &Service, what: &str, email: &str) -> String {
    let key = hmac(&data_subkey("throttle"), &[&[2], email.as_bytes()].concat());
    let key = service.database.bytes(&key);
    format!("SELECT {what} FROM login_throttle WHERE key_hash = {key}")
}

/// A service with the default limits but for these, and the account of Ana.
async fn with_ana(database: TestDatabase, changed: &[(&str, &str)]) -> Service {
    let service = Service::start(database, &limits(changed)).await;
    let registered = service.client().register(register(ANA)).await;
    registered.expect("registers");
    service
}
