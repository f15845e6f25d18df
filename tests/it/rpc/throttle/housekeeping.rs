//! Housekeeping deletes counters of which nothing is left.

use std::time::Duration;

use auth_service::{app::housekeeping::delete_forgotten_counters, model::Clock as _};

use super::{
    ANA, DAY, MINUTE,
    Outcome::{In, Wait, Wrong},
    SECOND, device_of, each_its_own, enter, guess, limits, on_device, send, with_ana, wrong,
};
use crate::harness::{TestDatabase, both, config, db};

const ROWS: &str = "SELECT count(*) FROM login_throttle";

both! {
    async fn a_spray_of_invented_addresses_leaves_no_rows(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let limits = config(&service.database, &limits(&[])).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        let start = service.clock.now();
        for n in 0..6 {
            assert_eq!(guess(&service, &format!("{n}@example.com"), &each_its_own(n)).await, Wrong);
        }
        assert_eq!(service.database.count(ROWS).await, 12, "an account and a network each");
        let delete = async |after| delete_forgotten_counters(&db, &limits, start + after).await.unwrap();
        assert_eq!(delete(29 * SECOND).await, 0);
        assert_eq!(delete(30 * SECOND).await, 6, "the networks");
        assert_eq!(delete(29 * MINUTE).await, 0);
        assert_eq!(delete(30 * MINUTE).await, 6, "the accounts");
        assert_eq!(service.database.count(ROWS).await, 0);
    }

    async fn a_wait_is_kept_until_it_is_over(database: TestDatabase) {
        // All failures are forgotten long before the wait ends.
        let changed = [("--throttle-free-per-account", "2"), ("--throttle-fade", "1s"),
            ("--throttle-first-wait", "15m")];
        let service = with_ana(database, &changed).await;
        let limits = config(&service.database, &limits(&changed)).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        for _ in 0..2 {
            assert_eq!(guess(&service, ANA, "").await, Wrong);
        }
        let start = service.clock.now();
        service.database.execute("UPDATE login_throttle SET day_failures = 0, day_ends_at = 0").await;
        let delete = async |after| delete_forgotten_counters(&db, &limits, start + after).await.unwrap();
        assert_eq!(delete(899 * SECOND).await, 0);
        assert!(matches!(enter(&service, ANA, "").await, Wait(_)));
        assert_eq!(delete(15 * MINUTE).await, 1);
    }

    async fn logins_leave_nothing_that_lasts(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let device = device_of(&service, ANA).await;
        assert_eq!(service.database.count(ROWS).await, 0, "one counter");
        assert_eq!(send(&service, "192.0.2.1", on_device(&device, wrong(ANA))).await, Wrong);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        let limits = config(&service.database, &limits(&[])).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        let now = service.clock.now() + MINUTE;
        delete_forgotten_counters(&db, &limits, now).await.unwrap();
        assert_eq!(service.database.count(ROWS).await, 1, "the failure of the device");
    }

    async fn a_day_is_kept_until_its_failures_took_their_share_of_it(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-daily-per-account", "12")]).await;
        let options = limits(&[("--throttle-daily-per-account", "12"), ("--throttle-fade", "1m")]);
        let limits = config(&service.database, &options).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        for n in 0..12 {
            assert_eq!(guess(&service, ANA, &each_its_own(n)).await, Wrong);
        }
        let start = service.clock.now();
        delete_forgotten_counters(&db, &limits, start + DAY - MINUTE).await.unwrap();
        assert_eq!(service.database.count(ROWS).await, 1, "all the day's failures");
        assert!(matches!(enter(&service, ANA, "192.0.2.1").await, Wait(_)));
        let fewer = "UPDATE login_throttle SET day_failures = 2";
        service.database.execute(fewer).await;
        // Two of twelve have a sixth of the day. The other failures have faded by then.
        service.database.execute("UPDATE login_throttle SET free_from = 0").await;
        let share = DAY / 6;
        assert_eq!(delete_forgotten_counters(&db, &limits, start + share - SECOND).await.unwrap(), 0);
        assert_eq!(delete_forgotten_counters(&db, &limits, start + share).await.unwrap(), 1);
    }

    async fn many_counters_are_deleted_in_small_batches(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let limits = config(&service.database, &limits(&[])).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        let key = service.database.dialect("randomblob(32)", "sha256(CAST(i AS text)::bytea)");
        service.database.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1700) \
             INSERT INTO login_throttle SELECT {key}, \
             CASE WHEN i % 3 = 0 THEN 9000000000000000 ELSE 0 END, 0, 0, 0, 0, 1, 0 FROM n"
        )).await;
        let now = service.clock.now();
        assert_eq!(delete_forgotten_counters(&db, &limits, now).await.unwrap(), 1134);
        assert_eq!(service.database.count(ROWS).await, 567);
        assert_eq!(delete_forgotten_counters(&db, &limits, now).await.unwrap(), 0);
    }
}
