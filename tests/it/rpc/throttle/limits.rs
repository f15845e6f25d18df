//! How many wrong passwords are free, and how long the next attempts wait.

use std::{sync::Arc, time::Duration};

use auth_service::proto::{self, account_service_client::AccountServiceClient};

use super::{
    ANA, DAY, MICROSECOND, MINUTE,
    Outcome::{self, In, Wait, Wrong},
    SECOND, always, by_user, device_of, each_its_own, enter, exhaust, exhaust_with, from, guess,
    limits, on_device, send, with_ana, wrong,
};
use crate::harness::{
    PASSWORD, Service, Session, TestDatabase, both, change_password_from, delete_account, login,
};

const NEW_PASSWORD: &str = "quiet meadow brass lantern";

/// Sends a password as the current one of a signed-in user.
async fn change(service: &Service, session: &Session, current: &str) -> Outcome {
    let mut account = AccountServiceClient::new(service.channel());
    let request = change_password_from(current, NEW_PASSWORD);
    let request = by_user(&session.tokens.access_token, "192.0.2.1", request);
    Outcome::of(account.change_password(request).await)
}

both! {
    async fn a_known_device_has_ten_free_failures(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let [device, other] = [device_of(&service, ANA).await, device_of(&service, ANA).await];
        let guess = on_device(&device, wrong(ANA));
        assert_eq!(exhaust_with(&service, &guess, each_its_own).await, (10, SECOND));
        let right = on_device(&device, login(ANA));
        assert_eq!(send(&service, "192.0.2.9", right.clone()).await, Wait(SECOND));
        assert_eq!(send(&service, "", on_device(&other, login(ANA))).await, In, "another device");
        assert_eq!(enter(&service, ANA, "").await, In, "the account has no failures");
        service.clock.advance(SECOND);
        assert_eq!(send(&service, "", right).await, In);
    }

    async fn an_account_has_twenty_free_failures_from_everywhere(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn guesses_without_an_address_have_no_stricter_limit(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        for _ in 0..5 {
            assert_eq!(guess(&service, ANA, "").await, Wrong);
        }
        assert_eq!(enter(&service, ANA, "").await, In);
        assert_eq!(exhaust(&service, ANA, always("")).await, (15, SECOND));
        assert_eq!(guess(&service, "ben@example.com", "").await, Wrong, "others are not held up");
    }

    async fn a_network_has_fifty_free_failures_with_all_accounts(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        for n in 0..50 {
            // A text that is no e-mail address counts for the network as well.
            let email = if n % 2 == 0 { format!("{n}@example.com") } else { format!("no address {n}") };
            assert_eq!(guess(&service, &email, "192.0.2.1").await, Wrong);
        }
        assert_eq!(guess(&service, "no address", "192.0.2.1").await, Wait(SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.2").await, In);

        // A success takes back only its own count.
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wait(2 * SECOND));
        // A failure of a network is forgotten in half a minute.
        service.clock.advance(50 * MINUTE);
        assert_eq!(guess(&service, "no address", "192.0.2.1").await, Wrong);
    }

    async fn each_further_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-free-per-account", "3")]).await;
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

    async fn a_refused_attempt_writes_nothing(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-free-per-account", "3")]).await;
        exhaust(&service, ANA, always("192.0.2.1")).await;
        let before = service.database.dump("login_throttle").await;
        for n in 0..10 {
            assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wait(SECOND));
        }
        assert_eq!(service.database.dump("login_throttle").await, before);
        service.clock.advance(SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn a_success_leaves_the_failures_of_others(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-free-per-account", "4")]).await;
        for _ in 0..3 {
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        }
        for _ in 0..5 {
            assert_eq!(enter(&service, ANA, "192.0.2.2").await, In);
        }
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (1, SECOND));
    }

    async fn one_failure_is_forgotten_every_half_hour(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-free-per-account", "5")]).await;
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

    async fn a_days_failures_that_reach_a_hash_are_bounded_even_if_the_owner_logs_in(database: TestDatabase) {
        let limits = [("--throttle-daily-per-account", "30"), ("--throttle-free-per-account", "40")];
        let service = with_ana(database, &limits).await;
        let device = device_of(&service, ANA).await;
        for n in 0..30 {
            assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wrong);
            if n % 10 == 9 {
                service.clock.advance(MINUTE);
                // A success is no failure of the day.
                let outcome = enter(&service, ANA, "192.0.2.1").await;
                assert_eq!(outcome, if n == 29 { Wait(DAY.saturating_sub(3 * MINUTE)) } else { In });
            }
        }
        let left = DAY.saturating_sub(3 * MINUTE);
        assert_eq!(guess(&service, ANA, "192.0.2.9").await, Wait(left));
        assert_eq!(send(&service, "", on_device(&device, login(ANA))).await, In);
        assert_eq!(enter(&service, ANA, "192.0.2.9").await, Wait(left), "the day stays");
        service.clock.advance(left);
        assert_eq!(guess(&service, ANA, "192.0.2.9").await, Wrong);
    }

    async fn a_signed_in_user_is_held_back_by_the_own_failures_of_the_session_only(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let [session, other] = [service.sign_in(ANA).await, service.sign_in(ANA).await];
        exhaust(&service, ANA, each_its_own).await;
        for n in 0..10 {
            let outcome = if n % 2 == 0 {
                let mut account = AccountServiceClient::new(service.channel());
                let request = delete_account("wrong");
                let request = by_user(&session.tokens.access_token, "192.0.2.1", request);
                Outcome::of(account.delete_account(request).await)
            } else {
                change(&service, &session, "wrong").await
            };
            assert_eq!(outcome, Wrong);
        }
        assert_eq!(change(&service, &session, PASSWORD).await, Wait(SECOND));
        assert_eq!(guess(&service, "ben@example.com", "192.0.2.1").await, Wrong, "no network");
        assert_eq!(change(&service, &other, PASSWORD).await, In, "another session");
    }

    async fn replicas_share_the_counts(database: TestDatabase) {
        let five = [("--throttle-free-per-account", "5")];
        let one = with_ana(database.clone(), &five).await;
        let other = Service::start_at(database, Arc::clone(&one.clock), &limits(&five)).await;
        for _ in 0..2 {
            assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wrong);
            assert_eq!(guess(&other, ANA, "192.0.2.1").await, Wrong);
        }
        assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(guess(&other, ANA, "192.0.2.1").await, Wait(SECOND));
        assert_eq!(guess(&one, ANA, "192.0.2.1").await, Wait(SECOND));
    }

    async fn nothing_else_asks_the_throttle(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let session = service.sign_up("ben@example.com").await;
        exhaust(&service, "ben@example.com", always("")).await;
        service.database.execute("DROP TABLE login_throttle").await;
        let tokens = service.refresh(&session.tokens.refresh_token).await.expect("refreshes");
        let key = from("192.0.2.1", proto::GetSigningKeyRequest {});
        service.client().get_signing_key(key).await.expect("the key");
        service.log_out(&tokens.refresh_token).await.expect("logs out");
    }
}
