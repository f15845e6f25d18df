//! No wait is longer than configured, whatever a clock once wrote.

use std::sync::Arc;

use auth_service::model::Clock as _;

use super::{
    ANA, DAY, DEFAULTS, MICROSECOND, MINUTE,
    Outcome::{In, Wait, Wrong},
    SECOND, always, each_its_own, enter, exhaust, from, guess, with_ana,
};
use crate::harness::{ManualClock, Service, TestDatabase, both, refused, register};

const LONGEST: std::time::Duration = std::time::Duration::from_mins(15);

/// A replica whose clock is a month ahead.
async fn ahead(service: &Service) -> Service {
    let clock = Arc::new(ManualClock::new(service.clock.now() + 30 * DAY));
    Service::start_at(service.database.clone(), clock, &DEFAULTS).await
}

both! {
    async fn a_clock_a_month_ahead_does_not_lock_the_owner_out(database: TestDatabase) {
        let service = with_ana(database).await;
        let ahead = ahead(&service).await;
        assert_eq!(exhaust(&ahead, ANA, always("192.0.2.1")).await, (5, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In, "the pair");
        assert_eq!(exhaust(&ahead, ANA, always("")).await, (5, SECOND));
        assert_eq!(enter(&service, ANA, "").await, In, "the account without an address");
        assert_eq!(exhaust(&ahead, ANA, each_its_own).await.1, SECOND);
        assert_eq!(enter(&service, ANA, "192.0.2.9").await, In, "the account");
        // The counters work again.
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
        assert_eq!(exhaust(&service, ANA, always("192.0.2.77")).await, (5, SECOND));
    }

    async fn a_day_that_a_clock_a_month_ahead_has_spent_does_not_count(database: TestDatabase) {
        let options = [&DEFAULTS[..6], &["--throttle-daily-per-account", "10"]].concat();
        let service = Service::start(database, &options).await;
        service.client().register(register(ANA)).await.expect("registers");
        let clock = Arc::new(ManualClock::new(service.clock.now() + 30 * DAY));
        let ahead = Service::start_at(service.database.clone(), clock, &options).await;
        for n in 0..10 {
            assert_eq!(guess(&ahead, ANA, &each_its_own(n)).await, Wrong);
        }
        assert!(matches!(guess(&ahead, ANA, "192.0.2.1").await, Wait(wait) if wait > DAY / 2));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        // The day begins anew.
        for n in 100..110 {
            assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wrong);
        }
        assert!(matches!(guess(&service, ANA, "192.0.2.2").await, Wait(wait) if wait > DAY / 2));
    }

    async fn an_address_that_a_clock_a_month_ahead_has_blocked_registers_again(database: TestDatabase) {
        let service = with_ana(database).await;
        let ahead = ahead(&service).await;
        let attempt = async |service: &Service, n: usize| {
            let request = register(&format!("user{n}@example.com"));
            service.client().register(from("192.0.2.1", request)).await
        };
        // The counter is full already: 50 registrations cost too many hashes.
        attempt(&ahead, 0).await.expect("registers");
        let full = "UPDATE login_throttle SET free_from = free_from + 49 * CAST(1800000000 AS bigint)";
        let full = service.database.dialect(
            "UPDATE login_throttle SET free_from = free_from + 49 * 1800000000",
            full,
        );
        service.database.execute(full).await;
        attempt(&ahead, 1).await.expect("the last without a wait causes one");
        refused(attempt(&ahead, 2).await);
        for n in 3..6 {
            attempt(&service, n).await.expect("another clock's counter does not count");
        }
    }

    async fn no_stored_time_makes_a_wait_longer_than_configured(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        let now = service.clock.now();
        let times = [
            MICROSECOND, MINUTE, LONGEST, LONGEST + MICROSECOND, DAY, DAY + MICROSECOND, 30 * DAY,
            36_500 * DAY,
        ];
        for column in ["blocked_until", "day_ends_at", "free_from", "known_until"] {
            for time in times {
                let time = (now + time).as_micros();
                let (longest, failures) = match column {
                    "day_ends_at" => (DAY, 100),
                    _ => (LONGEST, 0),
                };
                let sql = format!(
                    "UPDATE login_throttle SET {column} = {time}, day_failures = {failures}"
                );
                service.database.execute(&sql).await;
                service.clock.set(now);
                for _ in 0..2 {
                    if let Wait(wait) = guess(&service, ANA, "192.0.2.1").await {
                        assert!(wait <= longest, "{column} {time}: {wait:?}");
                        service.clock.advance(wait);
                        let then = guess(&service, ANA, "192.0.2.1").await;
                        assert_eq!(then, Wrong, "{column} {time}");
                    }
                }
                let reset = "UPDATE login_throttle SET free_from = 0, blocked_until = 0, \
                             day_ends_at = 0, day_failures = 0, known_until = 0";
                service.database.execute(reset).await;
            }
        }
    }
}
