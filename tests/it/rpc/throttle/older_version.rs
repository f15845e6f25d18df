//! While replicas are replaced, those of the release before count in the same table. Their
//! statements are written out here.

use std::time::Duration;

use auth_service::{app::housekeeping::delete_forgotten_counters, model::Clock as _};

use super::{
    ANA, MINUTE,
    Outcome::{In, Wrong},
    enter, guess, limits, with_ana,
};
use crate::harness::{TestDatabase, both, config, db};

/// In each of these `:name` stands for a value.
const ADMIT: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
SELECT column1, column2, column3, column4, column5, column6 FROM (VALUES :rows) AS attempt
WHERE NOT EXISTS (
    SELECT 1 FROM login_throttle AS held WHERE held.key_hash IN (:keys)
    AND ((held.blocked_until > :now AND held.blocked_until <= :block_latest)
        OR (held.day_ends_at > :now AND held.day_ends_at <= :day_latest
            AND held.day_failures >= :daily))
    AND NOT (held.key_hash = :account AND EXISTS (
        SELECT 1 FROM login_throttle AS pair
        WHERE pair.key_hash = :pair AND pair.known_until > :now)))
ORDER BY column1
ON CONFLICT (key_hash) DO UPDATE SET
    (free_from, blocked_until) = (
        SELECT raised, CASE WHEN raised > :now THEN :now + :least(:longest,
            :initial << CAST(((raised - :now - 1) - (raised - :now - 1) % :fade) / :fade AS integer))
            ELSE 0 END
        FROM (SELECT :least(CASE
            WHEN kept.free_from > :free_latest THEN excluded.free_from
            ELSE :greatest(kept.free_from + :fade, excluded.free_from) END, :most)
            AS raised) AS next),
    day_failures = excluded.day_failures
        + CASE WHEN kept.day_ends_at > :now AND kept.day_ends_at <= :day_latest
            THEN kept.day_failures ELSE 0 END,
    day_ends_at = CASE WHEN kept.day_ends_at > :now AND kept.day_ends_at <= :day_latest
        THEN kept.day_ends_at ELSE excluded.day_ends_at END
WHERE NOT ((kept.blocked_until > :now AND kept.blocked_until <= :block_latest)
    OR (kept.day_ends_at > :now AND kept.day_ends_at <= :day_latest
        AND kept.day_failures >= :daily))
RETURNING key_hash, blocked_until, known_until,
    (SELECT id FROM users WHERE email = 'ana@example.com'),
    (SELECT password_hash FROM users WHERE email = 'ana@example.com'),
    (SELECT password_changed_at FROM users WHERE email = 'ana@example.com')";

const HELD_BACK_UNTIL: &str = "\
SELECT key_hash, blocked_until, day_failures, day_ends_at, known_until
FROM login_throttle WHERE key_hash IN (:keys)";

const SETTLE: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
VALUES :settled
ON CONFLICT (key_hash) DO UPDATE SET
    free_from = CASE WHEN excluded.free_from = 0 THEN 0
        ELSE kept.free_from - excluded.free_from END,
    blocked_until = CASE
        WHEN excluded.free_from = 0 OR kept.blocked_until = excluded.blocked_until THEN 0
        ELSE kept.blocked_until END,
    day_failures = :greatest(kept.day_failures - excluded.day_failures, 0),
    known_until = :greatest(kept.known_until, excluded.known_until)";

const DELETE_FADED: &str = "\
DELETE FROM login_throttle WHERE key_hash IN (
    SELECT key_hash FROM login_throttle WHERE key_hash > :nothing AND key_hash <= :pair
    AND free_from < :past AND blocked_until < :past AND day_ends_at < :past
    AND known_until < :past
    ORDER BY key_hash :skip_locked)";

const FREE: i64 = 5;
const FADE: i64 = 1_800_000_000;
const DAY: i64 = 86_400_000_000;

/// A replica of the release before, with a counter of an account and one of a pair.
struct OldReplica {
    database: TestDatabase,
    now: i64,
}

impl OldReplica {
    async fn execute(&self, statement: &str) {
        let (database, now) = (&self.database, self.now);
        let [account, pair] = [1, 2].map(|byte| match database.dialect("s", "p") {
            "s" => database.bytes(&[byte; 32]),
            _ => database.bytes(&[byte; 32]) + "::bytea",
        });
        let first = now + (2 - FREE) * FADE;
        let known = now + 90 * DAY;
        let values = [
            (
                "rows",
                format!(
                    "({account}, {first}, 0, 1, {}, 0), ({pair}, {first}, 0, 0, 0, 0)",
                    now + DAY
                ),
            ),
            (
                "settled",
                format!("({account}, 0, 0, 1, 0, 0), ({pair}, 0, 0, 0, 0, {known})"),
            ),
            ("keys", format!("{account}, {pair}")),
            ("account", account),
            ("pair", pair),
            ("nothing", database.bytes(&[])),
            ("now", now.to_string()),
            ("past", (now - DAY).to_string()),
            ("block_latest", (now + 900_000_000).to_string()),
            ("day_latest", (now + DAY).to_string()),
            ("free_latest", (now + 11 * FADE + DAY).to_string()),
            ("most", (now + 11 * FADE).to_string()),
            ("daily", "100".to_owned()),
            ("initial", "1000000".to_owned()),
            ("longest", "900000000".to_owned()),
            ("fade", FADE.to_string()),
            ("least", database.dialect("MIN", "LEAST").to_owned()),
            ("greatest", database.dialect("MAX", "GREATEST").to_owned()),
            (
                "skip_locked",
                database.dialect("", "FOR UPDATE SKIP LOCKED").to_owned(),
            ),
        ];
        let fill =
            |sql: String, (name, value): &(&str, String)| sql.replace(&format!(":{name}"), value);
        let sql = values.iter().fold(statement.to_owned(), fill);
        database.execute(&sql).await;
    }

    /// The counters of account and pair.
    async fn failures(&self) -> Vec<Option<String>> {
        let sql =
            "SELECT free_from || ' ' || blocked_until || ' ' || day_failures || ' ' || known_until
             FROM login_throttle WHERE failed_at = 0 AND revision = 0";
        let mut rows = self.database.texts(sql).await;
        rows.sort();
        rows
    }
}

both! {
    async fn a_replica_of_the_release_before_goes_on_counting(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let now = service.clock.now();
        let old = OldReplica { database: service.database.clone(), now: now.as_micros() };
        for _ in 0..FREE {
            old.execute(ADMIT).await;
            assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        }
        let (raised, until) = (old.now + FADE, old.now + 1_000_000);
        let expected = [format!("{raised} {until} 0 0"), format!("{raised} {until} 5 0")];
        assert_eq!(old.failures().await, expected.map(Some));
        old.execute(HELD_BACK_UNTIL).await;
        // It refuses the next one, and the new replica has other counters.
        old.execute(ADMIT).await;
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        old.execute(SETTLE).await;
        let known = old.now + 90 * DAY;
        assert_eq!(old.failures().await, [format!("0 0 0 {known}"), "0 0 4 0".to_owned()].map(Some));

        // Housekeeping of either deletes no counter of the other that is needed.
        let limits = config(&service.database, &limits(&[])).auth.throttle;
        let db = db(&service.database, Duration::from_secs(5));
        let before = service.database.count("SELECT count(*) FROM login_throttle").await;
        old.execute(DELETE_FADED).await;
        assert_eq!(delete_forgotten_counters(&db, &limits, now + MINUTE).await.unwrap(), 0);
        assert_eq!(service.database.count("SELECT count(*) FROM login_throttle").await, before);
        let late = OldReplica { now: known + 2 * DAY, ..old };
        late.execute(DELETE_FADED).await;
        assert_eq!(late.failures().await, [None; 0]);
    }
}
