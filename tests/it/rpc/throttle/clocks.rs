//! No wait is longer than configured, whatever a clock once wrote.

use std::{sync::Arc, time::Duration};

use auth_service::model::Clock as _;

use super::{
    ANA, DAY, MICROSECOND, MINUTE,
    Outcome::{In, Wait, Wrong},
    SECOND, always, device_of, each_its_own, enter, exhaust, exhaust_with, from, guess, limits,
    on_device, send, with_ana, wrong,
};
use crate::harness::{ManualClock, Service, TestDatabase, both, db, login, refused, register};

const LONGEST: Duration = Duration::from_mins(15);

/// Sets the clock of the service to that of the database, and starts a replica whose clock is a
/// month ahead. Its housekeeping works by the database's clock.
async fn ahead(service: &Service, changed: &[(&str, &str)]) -> Service {
    let right = db(&service.database, Duration::from_secs(5)).now().await;
    service.clock.set(right.expect("the database answers"));
    let clock = Arc::new(ManualClock::new(service.clock.now() + 30 * DAY));
    Service::start_at(service.database.clone(), clock, &limits(changed)).await
}

both! {
    async fn a_clock_a_month_ahead_does_not_lock_the_owner_out(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let ahead = ahead(&service, &[]).await;
        let device = device_of(&service, ANA).await;
        let guess = on_device(&device, wrong(ANA));
        assert_eq!(exhaust_with(&ahead, &guess, always("")).await, (10, SECOND));
        assert_eq!(send(&service, "", on_device(&device, login(ANA))).await, In, "the device");
        assert_eq!(exhaust(&ahead, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.9").await, In, "the account");
        // The counters work again.
        assert_eq!(exhaust_with(&service, &guess, always("")).await, (10, SECOND));
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
    }

    async fn a_day_that_a_clock_a_month_ahead_has_spent_does_not_count(database: TestDatabase) {
        let daily = [("--throttle-daily-per-account", "10")];
        let service = with_ana(database, &daily).await;
        let ahead = ahead(&service, &daily).await;
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

    async fn a_network_that_a_clock_a_month_ahead_has_blocked_registers_again(database: TestDatabase) {
        let two = [("--throttle-registrations-per-network", "2")];
        let service = with_ana(database, &two).await;
        let ahead = ahead(&service, &two).await;
        let attempt = async |service: &Service, n: usize| {
            let request = register(&format!("user{n}@example.com"));
            service.client().register(from("192.0.2.1", request)).await
        };
        attempt(&ahead, 0).await.expect("registers");
        attempt(&ahead, 1).await.expect("the last without a wait causes one");
        refused(attempt(&ahead, 2).await);
        attempt(&service, 3).await.expect("another clock's counter does not count");
    }

    async fn no_stored_time_makes_a_wait_longer_than_configured(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        let now = service.clock.now();
        let times = [
            MICROSECOND, MINUTE, LONGEST, LONGEST + MICROSECOND, DAY, DAY + MICROSECOND, 30 * DAY,
            36_500 * DAY,
        ];
        for (column, other) in [
            ("free_from", "failed_at"), ("failed_at", "free_from"), ("day_ends_at", "failed_at"),
        ] {
            for ahead in times {
                let (time, far) = ((now + ahead).as_micros(), (now + 10 * 60 * MINUTE).as_micros());
                let (longest, failures) = match column {
                    "day_ends_at" => (DAY, 100),
                    _ => (LONGEST, 0),
                };
                let other_time = if column == "failed_at" { far } else { now.as_micros() };
                let sql = format!(
                    "UPDATE login_throttle SET {column} = {time}, day_failures = {failures}, \
                     {other} = {other_time}"
                );
                service.database.execute(&sql).await;
                service.clock.set(now);
                if let Wait(wait) = guess(&service, ANA, "192.0.2.1").await {
                    assert!(wait <= longest, "{column} {time}: {wait:?}");
                    service.clock.advance(wait);
                    let then = guess(&service, ANA, "192.0.2.1").await;
                    // A clock that is ahead by so little is believed.
                    let rest = ahead.saturating_sub(longest);
                    let is_believed = rest == MICROSECOND && then == Wait(rest);
                    assert!(is_believed || then == Wrong, "{column} {time}: {then:?}");
                }
                let reset = "UPDATE login_throttle SET free_from = 0, failed_at = 0, \
                             day_ends_at = 0, day_failures = 0";
                service.database.execute(reset).await;
            }
        }
    }
}
