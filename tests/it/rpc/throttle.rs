//! Guessing gets slow: wrong passwords count for the account, the caller's address and the
//! pair of both, on all replicas together, before a hash is paid.

use std::{sync::Arc, time::Duration};

use auth_service::{
    app::housekeeping::delete_faded_counters, db::Db, model::Clock as _, proto,
    proto::account_service_client::AccountServiceClient,
};
use futures::future::join_all;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Request, Status};

use crate::harness::{
    INTERNAL_TOKEN, PASSWORD, Service, TestDatabase, both, change_password, config, delete_account,
    error_line, login, reason, refused, register, retry_after, violation,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const MICROSECOND: Duration = Duration::from_micros(1);
const ANA: &str = "ana@example.com";

/// The limits as they are when nothing is configured.
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

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    In,
    Wrong,
    Wait(Duration),
}
use Outcome::{In, Wait, Wrong};

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

/// A request as the gateway passes it on.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = format!("Bearer {INTERNAL_TOKEN}");
    let metadata = request.metadata_mut();
    metadata.insert("authorization", token.parse().expect("ASCII"));
    if !address.is_empty() {
        metadata.insert("x-client-address", address.parse().expect("ASCII"));
    }
    request
}

/// The same, on behalf of a signed-in user.
fn by_user<T>(access_token: &str, address: &str, message: T) -> Request<T> {
    let mut request = from(address, message);
    let token = format!("Bearer {access_token}");
    let metadata = request.metadata_mut();
    metadata.append("authorization", token.parse().expect("ASCII"));
    request
}

fn wrong(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        password: "wrong".to_owned(),
        ..login(email)
    }
}

/// A name for each of many guesses.
type Names = fn(usize) -> String;

/// Guesses at an account from an address (none if it is empty).
async fn guess(service: &Service, email: &str, address: &str) -> Outcome {
    let request = from(address, wrong(email));
    Outcome::of(service.client().login(request).await)
}

/// Logs in with the right password.
async fn enter(service: &Service, email: &str, address: &str) -> Outcome {
    let request = from(address, login(email));
    Outcome::of(service.client().login(request).await)
}

/// Guesses until it must wait; how often that went, and the wait.
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

/// A question about what is kept of an account without an address.
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

both! {
    async fn an_account_at_one_address_has_five_free_failures(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND), "the right one waits too");
        assert_eq!(enter(&service, ANA, "192.0.2.2").await, In, "elsewhere nobody guessed");
    }

    async fn without_an_address_too(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(exhaust(&service, ANA, always("")).await, (5, SECOND));
        assert_eq!(guess(&service, "ben@example.com", "").await, Wrong, "others are not held up");
    }

    async fn an_account_has_twenty_free_failures_from_everywhere(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn an_address_has_fifty_free_failures_with_all_accounts(database: TestDatabase) {
        let service = with_ana(database).await;
        for n in 0..50 {
            // What is no address counts for the caller's as well.
            let email = if n % 2 == 0 { format!("{n}@example.com") } else { format!("no address {n}") };
            assert_eq!(guess(&service, &email, "2001:db8:0:1::1").await, Wrong);
        }
        for neighbour in ["2001:db8:0:1::1", "2001:db8:0:1:ffff::9"] {
            assert_eq!(guess(&service, "no address", neighbour).await, Wait(SECOND));
            assert_eq!(enter(&service, ANA, neighbour).await, Wait(SECOND));
        }
        assert_eq!(enter(&service, ANA, "2001:db8:0:2::1").await, In);

        // A success gives the address only its own attempt back.
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "2001:db8:0:1::1").await, In);
        assert_eq!(guess(&service, ANA, "2001:db8:0:1::1").await, Wrong);
        assert_eq!(guess(&service, ANA, "2001:db8:0:1::1").await, Wait(2 * SECOND));
    }

    async fn each_further_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(database: TestDatabase) {
        let service = with_ana(database).await;
        let (_, mut wait) = exhaust(&service, ANA, always("192.0.2.1")).await;
        let mut waits = vec![wait];
        for _ in 0..12 {
            service.clock.advance(wait.saturating_sub(MICROSECOND));
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wait(MICROSECOND));
            service.clock.advance(MICROSECOND);
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
            let Wait(next) = guess(&service, ANA, "192.0.2.1").await else { panic!("no wait") };
            wait = next;
            waits.push(wait);
        }
        let waits: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
    }

    async fn whoever_is_refused_does_not_wait_longer_for_it(database: TestDatabase) {
        let service = with_ana(database).await;
        exhaust(&service, ANA, always("192.0.2.1")).await;
        let before = service.database.dump("login_throttle").await;
        for _ in 0..10 {
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wait(SECOND));
        }
        assert_eq!(service.database.dump("login_throttle").await, before);
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn success_clears_the_account_and_the_pair(database: TestDatabase) {
        let service = with_ana(database).await;
        for _ in 0..3 {
            for _ in 0..4 {
                assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
            }
            for n in 0..15 {
                assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wrong);
            }
            assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
            // The others keep their own counts, of which this lets two fade.
            service.clock.advance(Duration::from_hours(1));
        }
    }

    async fn one_failure_is_forgotten_every_half_hour(database: TestDatabase) {
        let service = with_ana(database).await;
        for _ in 0..5 {
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        }
        service.clock.advance(30 * MINUTE);
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (1, SECOND));
        service.clock.advance(90 * MINUTE);
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (3, SECOND));
        service.clock.advance(DAY);
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
    }

    async fn a_guesser_cannot_lock_the_owner_out(database: TestDatabase) {
        let service = with_daily_limit(database, "30").await;
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        let mut failures = 0;
        // All that a day allows, from everywhere.
        for n in 0..1000 {
            match guess(&service, ANA, &each_its_own(n)).await {
                Wrong => failures += 1,
                Wait(wait) if wait <= 15 * MINUTE => service.clock.advance(wait),
                Wait(_) => break,
                In => panic!("a wrong password"),
            }
        }
        assert_eq!(failures, 30);
        assert!(matches!(enter(&service, ANA, "192.0.2.2").await, Wait(_)), "a new device waits");
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In, "the owner's does not");
        // Where the owner is known, guesses are as few as anywhere.
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
    }

    async fn an_owner_is_known_for_thirty_days(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        service.clock.advance((30 * DAY).saturating_sub(MICROSECOND));
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        assert_eq!(exhaust(&service, ANA, each_its_own).await.1, SECOND);
        service.clock.advance(30 * DAY);
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
    }

    async fn who_registers_with_a_session_is_known_like_who_logs_in(database: TestDatabase) {
        let service = with_ana(database).await;
        let email = "ben@example.com";
        let request = proto::RegisterRequest { start_session: true, ..register(email) };
        service.client().register(from("192.0.2.1", request)).await.expect("registers");
        assert_eq!(exhaust(&service, email, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, email, "192.0.2.1").await, In);
    }

    async fn nobody_is_known_without_an_address(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(enter(&service, ANA, "").await, In);
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "").await, Wait(SECOND));
    }

    async fn a_days_failures_that_reach_a_hash_are_bounded_whatever_the_owner_does(database: TestDatabase) {
        let service = with_daily_limit(database, "30").await;
        for n in 0..30 {
            assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wrong);
            if n % 10 == 9 {
                service.clock.advance(MINUTE);
                assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
            }
        }
        let left = DAY.saturating_sub(3 * MINUTE);
        assert_eq!(guess(&service, ANA, "192.0.2.9").await, Wait(left));
        assert_eq!(enter(&service, ANA, "192.0.2.9").await, Wait(left));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        assert_eq!(enter(&service, ANA, "192.0.2.9").await, Wait(left), "the day stays");
        service.clock.advance(left);
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
    }

    async fn an_unknown_account_is_throttled_like_a_known_one(database: TestDatabase) {
        let service = with_ana(database).await;
        let mut stories = Vec::new();
        for email in [ANA, "nobody@example.com"] {
            let mut story = Vec::new();
            for n in 0..30 {
                // In two ways to write it.
                let email = if n % 2 == 0 { email.to_owned() } else { email.to_uppercase() };
                let address = if n < 8 { "192.0.2.1".to_owned() } else { each_its_own(n) };
                let request = from(&address, wrong(&email));
                let status = refused(service.client().login(request).await);
                let mut metadata = status.metadata().clone();
                metadata.remove("date");
                let metadata = format!("{metadata:?}");
                story.push((status.code(), status.message().to_owned(), status.details().to_vec(), metadata));
            }
            stories.push(story);
        }
        assert_eq!(stories[0], stories[1]);
        let refused = stories[0].iter().filter(|(code, ..)| *code == Code::ResourceExhausted);
        assert_eq!(refused.count(), 3 + 7);
    }

    async fn only_a_trusted_caller_says_where_a_call_comes_from(database: TestDatabase) {
        let service = with_ana(database).await;
        for n in 0..5 {
            let mut request = Request::new(wrong(ANA));
            request.metadata_mut().insert("x-client-address", each_its_own(n).parse().unwrap());
            if n % 2 == 0 {
                let token = format!("Bearer not-{INTERNAL_TOKEN}");
                request.metadata_mut().insert("authorization", token.parse().unwrap());
            }
            assert_eq!(Outcome::of(service.client().login(request).await), Wrong);
        }
        let mut request = Request::new(login(ANA));
        request.metadata_mut().insert("x-client-address", "junk".parse().unwrap());
        let outcome = Outcome::of(service.client().login(request).await);
        assert_eq!(outcome, Wait(SECOND), "they all counted as without an address");
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn a_trusted_caller_may_pass_a_users_token_next_to_its_own(database: TestDatabase) {
        let service = with_ana(database).await;
        for n in 0..6 {
            let mut request = Request::new(wrong(ANA));
            let metadata = request.metadata_mut();
            metadata.append("authorization", "Bearer a.jwt.of-somebody".parse().unwrap());
            metadata.append("authorization", format!("Bearer {INTERNAL_TOKEN}").parse().unwrap());
            metadata.insert("x-client-address", each_its_own(n).parse().unwrap());
            assert_eq!(Outcome::of(service.client().login(request).await), Wrong);
        }
    }

    async fn a_wrong_current_password_counts_like_a_wrong_login(database: TestDatabase) {
        let service = with_ana(database).await;
        let session = service.sign_in(ANA).await;
        let token = &session.tokens.access_token;
        let mut account = AccountServiceClient::new(service.channel());
        for n in 0..5 {
            let outcome = if n % 2 == 0 {
                let request = by_user(token, "192.0.2.1", delete_account("wrong"));
                Outcome::of(account.delete_account(request).await)
            } else {
                let wrong = proto::ChangePasswordRequest {
                    current_password: "wrong".to_owned(),
                    ..change_password("quiet meadow lantern")
                };
                let request = by_user(token, "192.0.2.1", wrong);
                Outcome::of(account.change_password(request).await)
            };
            assert_eq!(outcome, Wrong);
        }
        let request = by_user(token, "192.0.2.1", delete_account(PASSWORD));
        assert_eq!(Outcome::of(account.delete_account(request).await), Wait(SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
        let request = by_user(token, "192.0.2.2", change_password("quiet meadow lantern"));
        assert_eq!(Outcome::of(account.change_password(request).await), In);
    }

    async fn what_a_trusted_caller_says_must_be_one_address(database: TestDatabase) {
        let service = with_ana(database).await;
        let mut twice = from("192.0.2.1", login(ANA));
        twice.metadata_mut().append("x-client-address", "192.0.2.2".parse().unwrap());
        let mut answers = vec![refused(service.client().login(twice).await)];
        for address in ["unknown", "192.0.2.1:4711", "192.0.2.1, 192.0.2.2"] {
            answers.push(refused(service.client().login(from(address, login(ANA))).await));
            let request = from(address, register("ben@example.com"));
            answers.push(refused(service.client().register(request).await));
        }
        for status in answers {
            let expected = ("x-client-address", "must be one IP address without a port");
            assert_eq!(violation(&status), (expected.0.to_owned(), expected.1.to_owned()));
        }
    }

    async fn an_address_registers_fifty_accounts_and_then_waits(database: TestDatabase) {
        let options = [&DEFAULTS[..8], &["--throttle-registrations-per-address", "3"]].concat();
        let service = Service::start(database, &options).await;
        let sign_up = |email: &str, address: &str| {
            let request = from(address, register(email));
            let mut client = service.client();
            async move { client.register(request).await }
        };
        assert_eq!(Outcome::of(sign_up("a@example.com", "192.0.2.1").await), In);
        assert_eq!(Outcome::of(sign_up("b@example.com", "192.0.2.1").await), In);
        let taken = refused(sign_up("a@example.com", "192.0.2.1").await);
        assert_eq!(reason(&taken).1, "EMAIL_TAKEN");
        for email in ["a@example.com", "c@example.com"] {
            assert_eq!(Outcome::of(sign_up(email, "192.0.2.1").await), Wait(SECOND));
        }
        assert_eq!(Outcome::of(sign_up("c@example.com", "192.0.2.2").await), In);
        assert_eq!(Outcome::of(sign_up("d@example.com", "").await), In);
        assert_eq!(enter(&service, "a@example.com", "192.0.2.1").await, In, "logins go on");
        service.clock.advance(SECOND);
        assert_eq!(Outcome::of(sign_up("e@example.com", "192.0.2.1").await), In);
        assert_eq!(Outcome::of(sign_up("f@example.com", "192.0.2.1").await), Wait(2 * SECOND));
    }

    async fn replicas_share_the_counts(database: TestDatabase) {
        let one = with_ana(database.clone()).await;
        let other = Service::start_at(database, Arc::clone(&one.clock), &DEFAULTS).await;
        for _ in 0..2 {
            assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wrong);
            assert_eq!(guess(&other, ANA, "192.0.2.1").await, Wrong);
        }
        assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(guess(&other, ANA, "192.0.2.1").await, Wait(SECOND));
        assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wait(SECOND));
    }

    async fn concurrent_guesses_do_not_slip_through(database: TestDatabase) {
        let one = with_ana(database.clone()).await;
        let other = Service::start_at(database.clone(), Arc::clone(&one.clock), &DEFAULTS).await;
        // Who guesses from where, and how many of a hundred reach a hash.
        let storms: [(Names, Names, usize); 4] = [
            (|_| "ben@example.com".to_owned(), |_| "192.0.2.7".to_owned(), 5),
            (|_| "nobody@example.com".to_owned(), |_| String::new(), 5),
            (|_| ANA.to_owned(), each_its_own, 20),
            (|n| format!("{n}@example.com"), |_| "192.0.2.1".to_owned(), 50),
        ];
        for (email, address, free) in storms {
            let guesses = (0..100).map(|n| {
                let mut client = if n % 2 == 0 { one.client() } else { other.client() };
                let request = from(&address(n), wrong(&email(n)));
                tokio::spawn(async move { client.login(request).await })
            });
            let (mut heard, mut lost) = (0, 0);
            for answer in join_all(guesses).await {
                match answer.unwrap() {
                    // Too much at once for a busy machine: it may be counted.
                    Err(status) if status.code() == Code::Internal => lost += 1,
                    Err(status) if status.code() == Code::DeadlineExceeded => lost += 1,
                    // Not counted.
                    Err(status) if reason(&status).1 == "OVERLOADED" => {}
                    answer => heard += usize::from(Outcome::of(answer) == Wrong),
                }
            }
            let (later, wait) = exhaust(&one, &email(free), address).await;
            assert_eq!(wait, SECOND);
            let (all, least) = (heard + later, free.saturating_sub(lost));
            assert!((least..=free).contains(&all), "{heard}, {later} and {lost} lost of {free}");
        }
    }

    async fn logins_and_guesses_at_once_do_not_block_each_other(database: TestDatabase) {
        let service = with_ana(database).await;
        let calls = (0..60).map(|n| {
            let mut client = service.client();
            let message = if n % 3 == 0 { login(ANA) } else { wrong(ANA) };
            let request = from(&format!("192.0.2.{}", n % 4), message);
            tokio::spawn(async move { client.login(request).await })
        });
        for answer in join_all(calls).await {
            // Anything but a deadlock, which would be an INTERNAL.
            Outcome::of(answer.unwrap());
        }
    }

    async fn nothing_else_asks_the_throttle(database: TestDatabase) {
        let service = with_ana(database).await;
        let session = service.sign_up("ben@example.com").await;
        for email in [ANA, "ben@example.com"] {
            exhaust(&service, email, always("")).await;
        }
        exhaust(&service, "ben@example.com", each_its_own).await;
        service.database.execute("DROP TABLE login_throttle").await;
        let tokens = service.refresh(&session.tokens.refresh_token).await.expect("refreshes");
        let key = from("192.0.2.1", proto::GetSigningKeyRequest {});
        service.client().get_signing_key(key).await.expect("the key");
        service.log_out(&tokens.refresh_token).await.expect("logs out");
    }

    async fn a_call_that_never_came_to_a_hash_is_not_counted(database: TestDatabase) {
        let options = [&DEFAULTS[..], &[
            "--bcrypt-cost", "14", "--password-threads", "1", "--password-max-wait", "1ms",
        ]].concat();
        let service = Service::start(database, &options).await;
        // More than hash at a time, each with an account of its own.
        let mut crowd = JoinSet::new();
        for member in 0..12 {
            let mut client = service.client();
            crowd.spawn(async move {
                for n in 0.. {
                    client.login(wrong(&format!("{member}-{n}@example.com"))).await.ok();
                    sleep(Duration::from_millis(5)).await;
                }
            });
        }
        let (mut overloaded, mut others) = (0, 0);
        while overloaded < 20 {
            match reason(&refused(service.client().login(wrong(ANA)).await)).1.as_str() {
                "OVERLOADED" => overloaded += 1,
                "TOO_MANY_ATTEMPTS" => sleep(Duration::from_millis(5)).await,
                _ => others += 1,
            }
            service.clock.advance(SECOND);
        }
        // Refused at the door, but for a race, so without a trace in the database.
        let strangers = (0..20).map(|n| format!("stranger-{n}@example.com"));
        let mut traces = 0;
        for stranger in strangers {
            refused(service.client().login(wrong(&stranger)).await);
            traces += service.database.count(&of_account(&service, "count(*)", &stranger)).await;
        }
        assert!(traces < 20, "{traces}");
        crowd.shutdown().await;
        let counted = of_account(&service, "COALESCE(max(day_failures), 0)", ANA);
        // An outage of the database may have kept one from being counted, on a busy machine.
        let counted = service.database.count(&counted).await;
        assert!(counted <= others, "{counted} of {others}, and {overloaded} were refused");
    }

    async fn a_call_that_was_given_up_stays_counted(database: TestDatabase) {
        let options = [&DEFAULTS[..], &["--bcrypt-cost", "13", "--password-max-wait", "9s"]].concat();
        let service = Service::start(database, &options).await;
        let sum = "SELECT COALESCE(sum(day_failures), 0) FROM login_throttle";
        for n in 1..=5 {
            let mut client = service.client();
            let call = tokio::spawn(async move { client.login(wrong(ANA)).await });
            service.database.wait_for(sum, n).await;
            call.abort();
        }
        assert_eq!(guess(&service, ANA, "").await, Wait(SECOND));
    }

    async fn counts_that_have_faded_are_deleted(database: TestDatabase) {
        let service = with_ana(database).await;
        let limits = config(&service.database, &DEFAULTS).auth.throttle;
        let db = Db::new(&config(&service.database, &[]).database, Duration::from_secs(5), &mut Registry::default());
        let rows = "SELECT count(*) FROM login_throttle";
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        for n in 0..3 {
            assert_eq!(guess(&service, "ben@example.com", &each_its_own(n)).await, Wrong);
        }
        // Ana's: account, pair, address; Ben's: account, three pairs, three addresses.
        assert_eq!(service.database.count(rows).await, 3 + 7);
        let start = service.clock.now();
        assert_eq!(delete_faded_counters(&db, &limits, start + 30 * MINUTE).await.unwrap(), 0);
        assert_eq!(delete_faded_counters(&db, &limits, start + 3 * DAY).await.unwrap(), 9);
        assert_eq!(service.database.count(rows).await, 1, "the known pair");
        assert_eq!(delete_faded_counters(&db, &limits, start + 32 * DAY).await.unwrap(), 1);
    }

    async fn many_counts_are_deleted_in_small_batches(database: TestDatabase) {
        let service = with_ana(database).await;
        let limits = config(&service.database, &DEFAULTS).auth.throttle;
        let db = Db::new(&config(&service.database, &[]).database, Duration::from_secs(5), &mut Registry::default());
        let key = service.database.dialect("randomblob(32)", "sha256(CAST(i AS text)::bytea)");
        service.database.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1700) \
             INSERT INTO login_throttle SELECT {key}, 0, 0, 0, 0, \
             CASE WHEN i % 3 = 0 THEN 9000000000000000 ELSE 0 END FROM n"
        )).await;
        assert_eq!(delete_faded_counters(&db, &limits, service.clock.now()).await.unwrap(), 1134);
        assert_eq!(service.database.count("SELECT count(*) FROM login_throttle").await, 567);
        assert_eq!(delete_faded_counters(&db, &limits, service.clock.now()).await.unwrap(), 0);
    }
}
