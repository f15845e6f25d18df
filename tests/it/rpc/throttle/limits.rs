//! How many wrong passwords are free, and how long the next attempts wait.

use std::{sync::Arc, time::Duration};

use auth_service::proto::{self, account_service_client::AccountServiceClient};

use super::{
    ANA, DAY, DEFAULTS, MICROSECOND, MINUTE,
    Outcome::{self, In, Wait, Wrong},
    SECOND, always, by_user, each_its_own, enter, exhaust, from, guess, with_ana, with_daily_limit,
};
use crate::harness::{
    PASSWORD, Service, TestDatabase, both, change_password, delete_account, reason, refused,
    register,
};

both! {
    async fn an_account_at_one_address_has_five_free_failures(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND), "the right one waits too");
        assert_eq!(enter(&service, ANA, "192.0.2.2").await, In, "another address has no failures");
    }

    async fn an_account_without_an_address_has_five_free_failures_too(database: TestDatabase) {
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
            // A text that is no e-mail address counts for the caller's address as well.
            let email = if n % 2 == 0 { format!("{n}@example.com") } else { format!("no address {n}") };
            assert_eq!(guess(&service, &email, "2001:db8:0:1::1").await, Wrong);
        }
        for neighbour in ["2001:db8:0:1::1", "2001:db8:0:1:ffff::9"] {
            assert_eq!(guess(&service, "no address", neighbour).await, Wait(SECOND));
            assert_eq!(enter(&service, ANA, neighbour).await, Wait(SECOND));
        }
        assert_eq!(enter(&service, ANA, "2001:db8:0:2::1").await, In);

        // A success removes only its own attempt from the count of the address.
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

    async fn a_refused_attempt_does_not_make_the_wait_longer(database: TestDatabase) {
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
            // The other pairs keep their counts. In this time two failures fade.
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

    async fn a_days_failures_that_reach_a_hash_are_bounded_even_if_the_owner_logs_in(database: TestDatabase) {
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
}
