//! Housekeeping deletes counters that no longer matter.

use std::time::Duration;

use auth_service::{app::housekeeping::delete_faded_counters, model::Clock as _};

use super::{
    ANA, DAY, DEFAULTS, MINUTE,
    Outcome::{In, Wrong},
    each_its_own, enter, guess, with_ana,
};
use crate::harness::{TestDatabase, both, config, db};

both! {
    async fn counts_that_have_faded_are_deleted(database: TestDatabase) {
        let service = with_ana(database).await;
        let limits = config(&service.database, &DEFAULTS).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
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
        let db = db(&service.database, Duration::from_secs(5));
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
