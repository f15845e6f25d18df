//! Attempts at once, and calls that end before their hash.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{task::JoinSet, time::sleep};
use tonic::Code;

use super::{
    ANA,
    Outcome::{self, In, Wait, Wrong},
    SECOND, always, device_of, each_its_own, enter, exhaust_with, from, guess, limits, of_account,
    on_device, send, with_ana, wrong,
};
use crate::harness::{Service, TestDatabase, both, eventually, login, reason, refused, soak};

/// The account or the address of each of many guesses.
type Names = fn(usize) -> String;

/// No call is refused or cut off for want of time, on a busy machine either.
const PATIENT: [(&str, &str); 2] = [("--request-timeout", "60s"), ("--password-max-wait", "50s")];

const FAILURES: &str = "SELECT COALESCE(sum(day_failures), 0) FROM login_throttle";

both! {
    async fn concurrent_guesses_do_not_slip_through(database: TestDatabase) {
        // A refused or cut off call would be taken back a moment later.
        let one = with_ana(database.clone(), &PATIENT).await;
        let options = limits(&PATIENT);
        let other = Service::start_at(database.clone(), Arc::clone(&one.clock), &options).await;
        let device = device_of(&one, ANA).await;
        // Accounts, addresses, devices, and how many of a hundred guesses reach a hash.
        let storms: [(Names, Names, &str, usize); 4] = [
            (|_| "nobody@example.com".to_owned(), |_| String::new(), "", 20),
            (|_| ANA.to_owned(), each_its_own, "", 20),
            (|_| ANA.to_owned(), each_its_own, &device, 10),
            (|n| format!("{n}@example.com"), |_| "192.0.2.1".to_owned(), "", 50),
        ];
        for (email, address, device, free) in storms {
            let guesses = (0..100).map(|n| {
                let mut client = if n % 2 == 0 { one.client() } else { other.client() };
                let request = from(&address(n), on_device(device, wrong(&email(n))));
                tokio::spawn(async move { client.login(request).await })
            });
            let (mut wrong_answers, mut lost) = (0, 0);
            for answer in join_all(guesses).await {
                match answer.unwrap() {
                    // The database of a busy machine is too slow: it may be counted.
                    Err(status) if status.code() == Code::Internal => lost += 1,
                    answer => wrong_answers += usize::from(Outcome::of(answer) == Wrong),
                }
            }
            let request = on_device(device, wrong(&email(free)));
            let (later, wait) = exhaust_with(&one, &request, address).await;
            assert_eq!(wait, SECOND);
            let (all, least) = (wrong_answers + later, free.saturating_sub(lost));
            assert!((least..=free).contains(&all), "{wrong_answers}, {later} and {lost} lost of {free}");
        }
    }

    async fn twelve_correct_logins_at_once_all_succeed(database: TestDatabase) {
        let service = with_ana(database, &PATIENT).await;
        for address in ["", "192.0.2.1"] {
            let calls = (0..12).map(|_| enter(&service, ANA, address));
            assert_eq!(join_all(calls).await, vec![In; 12], "{address:?}");
        }
        let failures = service.database.count(FAILURES).await;
        assert_eq!(failures, 0, "nothing is left of them");
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
    }

    async fn of_twelve_correct_logins_at_once_on_one_known_device_ten_succeed(database: TestDatabase) {
        let service = with_ana(database, &PATIENT).await;
        let device = device_of(&service, ANA).await;
        let on_it = on_device(&device, login(ANA));
        let calls = (0..12).map(|_| send(&service, "", on_it.clone()));
        let outcomes = join_all(calls).await;
        // Each login in flight counts as a failure. One that comes late finds some taken back.
        let entered = outcomes.iter().filter(|outcome| **outcome == In).count();
        assert!(entered >= 10, "{outcomes:?}");
        let refused = outcomes.iter().filter(|outcome| **outcome == Wait(SECOND)).count();
        assert_eq!(entered + refused, 12, "{outcomes:?}");
        // Nothing is left of them: the next ten guesses are free.
        let guess = on_device(&device, wrong(ANA));
        assert_eq!(exhaust_with(&service, &guess, always("")).await, (10, SECOND));
    }

    async fn logins_and_guesses_at_once_do_not_block_each_other(database: TestDatabase) {
        let service = with_ana(database, &PATIENT).await;
        let calls = (0..60).map(|n| {
            let mut client = service.client();
            let message = if n % 3 == 0 { login(ANA) } else { wrong(ANA) };
            let request = from(&format!("192.0.2.{}", n % 4), message);
            tokio::spawn(async move { client.login(request).await })
        });
        for answer in join_all(calls).await {
            // Any outcome is good but INTERNAL, which would be a deadlock.
            Outcome::of(answer.unwrap());
        }
    }

    async fn a_login_that_is_cancelled_before_its_hash_is_not_counted(database: TestDatabase) {
        // Hashes take seconds, and all lanes are busy.
        let slow = ["--bcrypt-cost", "16", "--password-threads", "1", "--request-timeout", "30m",
            "--password-max-wait", "29m"];
        let service = Service::start(database, &[&limits(&[])[..], &slow].concat()).await;
        let mut busy = JoinSet::new();
        for n in 0..8 {
            let mut client = service.client();
            busy.spawn(async move { client.login(wrong(&format!("{n}@example.com"))).await.is_ok() });
        }
        service.database.wait_for(FAILURES, 8).await;
        for _ in 0..soak(30, 60) {
            let mut client = service.client();
            let call = tokio::spawn(async move { client.login(wrong(ANA)).await });
            service.database.wait_for(FAILURES, 9).await;
            call.abort();
            service.database.wait_for(FAILURES, 8).await;
        }
        busy.shutdown().await;
    }

    async fn a_login_that_is_cancelled_during_its_hash_stays_counted(database: TestDatabase) {
        let slow = ["--bcrypt-cost", "14"];
        let options = [&limits(&[("--throttle-free-per-account", "5")])[..], &slow].concat();
        let service = Service::start(database, &options).await;
        for n in 1..=5 {
            wait_for_lanes(&service, |busy| busy == 0).await;
            let mut client = service.client();
            let call = tokio::spawn(async move { client.login(wrong(ANA)).await });
            service.database.wait_for(FAILURES, n).await;
            wait_for_lanes(&service, |busy| busy > 0).await;
            call.abort();
        }
        assert_eq!(guess(&service, ANA, "").await, Wait(SECOND));
    }

    async fn a_refused_hash_is_not_counted(database: TestDatabase) {
        let slow = ["--bcrypt-cost", "14", "--password-threads", "1", "--password-max-wait", "1ms"];
        let service = Service::start(database, &[&limits(&[])[..], &slow].concat()).await;
        // More calls than can be hashed at once, each for its own account.
        let mut others = JoinSet::new();
        for member in 0..12 {
            let mut client = service.client();
            others.spawn(async move {
                for n in 0.. {
                    client.login(wrong(&format!("{member}-{n}@example.com"))).await.ok();
                    sleep(Duration::from_millis(5)).await;
                }
            });
        }
        let (mut overloaded, mut checked) = (0, 0);
        while overloaded < 40 {
            match reason(&refused(service.client().login(wrong(ANA)).await)).1.as_str() {
                "OVERLOADED" => overloaded += 1,
                "INVALID_CREDENTIALS" | "DEADLINE_EXCEEDED" => checked += 1,
                other => panic!("{other} after {checked} hashes"),
            }
            // Fewer failures than the free ones are remembered.
            service.clock.advance(Duration::from_mins(30));
        }
        others.shutdown().await;
        let counted = of_account(&service, "COALESCE(max(day_failures), 0)", ANA);
        // The day may have begun anew.
        eventually(async || service.database.count(&counted).await <= checked).await;
    }
}

async fn wait_for_lanes(service: &Service, expected: fn(u32) -> bool) {
    eventually(async || {
        let (_, page) = service.probe("/metrics").await;
        let mut lines = page.lines();
        let busy = lines.find_map(|line| line.strip_prefix("auth_password_lanes_busy "));
        expected(busy.expect("the series exists").parse().expect("a count"))
    })
    .await;
}
