//! How many mails a person can ask for, and what housekeeping leaves of them.

use std::time::Duration;

use auth_service::app::housekeeping::{tick_counters, tick_mails};
use auth_service::model::Clock as _;
use tonic::Code;

use super::{Mailing, NEW_PASSWORD, asked, from, mailing};
use crate::harness::{PASSWORD, both, config, db, reason, refused, retry_after};

const ANA: &str = "ana@example.com";
const HOUR: Duration = Duration::from_hours(1);

async fn ask(mailing: &Mailing, address: &str, email: &str) -> Result<(), Option<Duration>> {
    let answer = mailing
        .recovery()
        .request_password_reset(from(address, asked(email)))
        .await;
    answer.map(drop).map_err(|status| {
        assert_eq!(
            reason(&status),
            (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".to_owned())
        );
        retry_after(&status)
    })
}

both! {
    async fn an_account_gets_three_mails_an_hour_whether_it_exists_or_not(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        for email in [ANA, "nobody@example.com", "no address"] {
            for n in 0..3 {
                assert_eq!(ask(&mailing, &format!("192.0.2.{n}"), email).await, Ok(()));
            }
            mailing.0.clock.advance(Duration::from_mins(20));
            assert_eq!(ask(&mailing, "192.0.2.9", email).await, Err(Some(Duration::from_mins(40))));
            mailing.0.clock.advance(Duration::from_mins(39));
            assert_eq!(ask(&mailing, "192.0.2.9", email).await, Err(Some(Duration::from_mins(1))));
            mailing.0.clock.advance(Duration::from_mins(1));
            assert_eq!(ask(&mailing, "192.0.2.9", email).await, Ok(()));
            mailing.0.clock.advance(HOUR);
        }
        assert_eq!(mailing.requested().await.len(), 4);
    }

    async fn a_network_gets_ten_mails_an_hour(mailing: Mailing) {
        for n in 0..10 {
            assert_eq!(ask(&mailing, "192.0.2.1", &format!("{n}@example.com")).await, Ok(()));
        }
        assert_eq!(ask(&mailing, "192.0.2.1", "10@example.com").await, Err(Some(HOUR)));
        assert_eq!(ask(&mailing, "192.0.2.2", "10@example.com").await, Ok(()));
        for n in 0..3 {
            assert_eq!(mailing.request_reset("11@example.com").await.is_ok(), n < 3, "no network");
        }
        mailing.0.clock.advance(HOUR);
        assert_eq!(ask(&mailing, "192.0.2.1", "12@example.com").await, Ok(()));
    }

    async fn a_reset_lifts_the_wait_of_the_account(database: crate::harness::TestDatabase) {
        let mailing = mailing(database, &["--throttle-free-per-account", "3"]).await;
        mailing.0.sign_up(ANA).await;
        for _ in 0..3 {
            refused(mailing.log_in(ANA, "wrong").await);
        }
        let held = refused(mailing.log_in(ANA, PASSWORD).await);
        assert_eq!(reason(&held).1, "TOO_MANY_ATTEMPTS");
        let token = mailing.reset_token(ANA).await;
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        for _ in 0..3 {
            let wrong = refused(mailing.log_in(ANA, "wrong").await);
            assert_eq!(reason(&wrong).1, "INVALID_CREDENTIALS");
        }
    }

    async fn housekeeping_keeps_what_can_still_be_used(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        mailing.request_reset("nobody@example.com").await.unwrap();
        let token = mailing.reset_token(ANA).await;
        let service = &mailing.0;
        let db = db(&service.database, Duration::from_secs(5));
        let limits = config(&service.database, &[]).auth.throttle;
        let requests = async || service.database.count("SELECT count(*) FROM mail_requests").await;
        let now = service.clock.now();
        tick_mails(&db, now).await;
        assert_eq!(requests().await, 1, "that of the unknown address is gone");
        // A counter is kept until its hour is over.
        for minutes in [0, 59] {
            tick_counters(&db, &limits, now + Duration::from_mins(minutes)).await;
            assert_eq!(service.database.count("SELECT count(*) FROM login_throttle").await, 2);
        }
        tick_counters(&db, &limits, now + HOUR).await;
        assert_eq!(service.database.count("SELECT count(*) FROM login_throttle").await, 0);
        let last = HOUR * 24;
        tick_mails(&db, now + last).await;
        assert_eq!(requests().await, 1);
        tick_mails(&db, now + last + Duration::from_micros(1)).await;
        assert_eq!(requests().await, 0);
        refused(mailing.reset(&token, NEW_PASSWORD).await);
    }
}
