//! Guesses at once, and calls that end before their hash.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{task::JoinSet, time::sleep};
use tonic::Code;

use super::{
    ANA, DEFAULTS,
    Outcome::{self, Wait, Wrong},
    SECOND, each_its_own, exhaust, from, guess, of_account, with_ana, wrong,
};
use crate::harness::{Service, TestDatabase, both, login, reason, refused};

/// The account or the address of each of many guesses.
type Names = fn(usize) -> String;

both! {
    async fn concurrent_guesses_do_not_slip_through(database: TestDatabase) {
        let one = with_ana(database.clone()).await;
        let other = Service::start_at(database.clone(), Arc::clone(&one.clock), &DEFAULTS).await;
        // Accounts, addresses, and how many of a hundred guesses reach a hash.
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
            let (mut wrong_answers, mut lost) = (0, 0);
            for answer in join_all(guesses).await {
                match answer.unwrap() {
                    // A busy machine is too slow: these may be counted.
                    Err(status) if status.code() == Code::Internal => lost += 1,
                    Err(status) if status.code() == Code::DeadlineExceeded => lost += 1,
                    // Not counted.
                    Err(status) if reason(&status).1 == "OVERLOADED" => {}
                    answer => wrong_answers += usize::from(Outcome::of(answer) == Wrong),
                }
            }
            let (later, wait) = exhaust(&one, &email(free), address).await;
            assert_eq!(wait, SECOND);
            let (all, least) = (wrong_answers + later, free.saturating_sub(lost));
            assert!((least..=free).contains(&all), "{wrong_answers}, {later} and {lost} lost of {free}");
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
            // Any outcome is good but INTERNAL, which would be a deadlock.
            Outcome::of(answer.unwrap());
        }
    }

    async fn a_call_that_never_reached_a_hash_is_not_counted(database: TestDatabase) {
        let options = [&DEFAULTS[..], &[
            "--bcrypt-cost", "14", "--password-threads", "1", "--password-max-wait", "1ms",
        ]].concat();
        let service = Service::start(database, &options).await;
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
        while overloaded < 20 {
            match reason(&refused(service.client().login(wrong(ANA)).await)).1.as_str() {
                "OVERLOADED" => overloaded += 1,
                "TOO_MANY_ATTEMPTS" => sleep(Duration::from_millis(5)).await,
                _ => checked += 1,
            }
            service.clock.advance(SECOND);
        }
        // Most of these are refused before anything is counted, so they leave no row.
        let emails = (0..20).map(|n| format!("other-{n}@example.com"));
        let mut rows = 0;
        for email in emails {
            refused(service.client().login(wrong(&email)).await);
            rows += service.database.count(&of_account(&service, "count(*)", &email)).await;
        }
        assert!(rows < 20, "{rows}");
        others.shutdown().await;
        let counted = of_account(&service, "COALESCE(max(day_failures), 0)", ANA);
        // On a busy machine an outage of the database may have kept one from being counted.
        let counted = service.database.count(&counted).await;
        assert!(counted <= checked, "{counted} of {checked}, and {overloaded} were refused");
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
}
