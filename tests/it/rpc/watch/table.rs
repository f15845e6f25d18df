//! The table of revocations: late commits, the end of a revocation, a database that is away.

use std::time::Duration;

use auth_service::{
    app::housekeeping,
    model::{Clock as _, Timestamp},
    proto::edge_update::Update,
};
use tokio::time::timeout;

use super::{ANA, BEN, session};
use crate::harness::{Revoked, Service, TestDatabase, Watch, both, db, eventually};

const HOUR: Duration = Duration::from_hours(1);
const REVOCATIONS: &str = "SELECT count(*) FROM revocations";

/// Inserts a revocation that was recorded so many seconds ago, by the clock of the database, as if
/// its commit had taken so long.
async fn insert(database: &TestDatabase, session_id: &str, seconds: u32) {
    let id = database.id(session_id);
    let now = database.dialect(
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        "clock_timestamp()",
    );
    let (ago, later) = (
        database
            .dialect(
                &format!("{seconds} * 1000000"),
                &format!("interval '{seconds} seconds'"),
            )
            .to_owned(),
        database
            .dialect("3600000000", "interval '1 hour'")
            .to_owned(),
    );
    let sql = format!(
        "INSERT INTO revocations (id, session_id, until, recorded_at) \
         VALUES ({id}, {id}, {now} + {later}, {now} - {ago})"
    );
    database.execute(&sql).await;
}

both! {
    async fn a_revocation_that_commits_late_is_heard(service: Service) {
        let (mut watch, _) = Watch::begin(service.channel()).await;
        for (id, seconds) in [
            ("0192f3a4-0000-7000-8000-000000000001", 0),
            ("0192f3a4-0000-7000-8000-000000000002", 3),
            ("0192f3a4-0000-7000-8000-000000000000", 100),
        ] {
            insert(&service.database, id, seconds).await;
            assert_eq!(watch.revoked().await, Revoked::Session(id.to_owned()));
        }
    }

    async fn an_expired_revocation_is_in_no_snapshot_and_is_deleted(service: Service) {
        let ana = service.sign_up(ANA).await;
        let (mut watch, _) = Watch::begin(service.channel()).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        watch.revoked().await;
        let database = db(&service.database, Duration::from_secs(10));
        let until: Timestamp = service.clock.now() + HOUR;
        for (now, held) in [(until, 1_u8), (until + Duration::from_secs(90), 0)] {
            service.clock.set(now);
            watch.until_heartbeat().await;
            let (_, snapshot) = Watch::begin(service.channel()).await;
            assert_eq!(snapshot.len(), usize::from(held));
            housekeeping::tick_revocations(&database, now).await;
            assert_eq!(service.database.count(REVOCATIONS).await, i64::from(held));
        }
        database.close().await;
    }

    async fn without_the_database_there_is_no_heartbeat_and_afterwards_nothing_is_missing(
        service: Service
    ) {
        let ana = service.sign_up(ANA).await;
        let ben = service.sign_up(BEN).await;
        let (mut watch, _) = Watch::begin(service.channel()).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(watch.revoked().await, session(&ana));
        service.database.execute("ALTER TABLE revocations RENAME TO hidden").await;
        let silent = async || !watch.beats_within(Duration::from_secs(4)).await;
        eventually(silent).await;
        // A stream that begins now receives the keys alone, with a cursor and without one.
        let mut later = Watch::open(service.channel(), &watch.cursor).await.unwrap();
        let mut new = Watch::open(service.channel(), "").await.unwrap();
        for watch in [&mut later, &mut new] {
            watch.keys().await;
        }
        let (of_later, of_new) = tokio::join!(
            timeout(Duration::from_secs(3), later.next()),
            timeout(Duration::from_secs(3), new.next()),
        );
        assert!(of_later.is_err() && !matches!(of_new, Ok(Ok(Some(Update::SnapshotEnd(_))))));
        service.database.execute("ALTER TABLE hidden RENAME TO revocations").await;
        service.log_out(&ben.tokens.refresh_token).await.unwrap();
        assert_eq!(watch.revoked().await, session(&ben));
        watch.until_heartbeat().await;
        while later.revoked().await != session(&ben) {}
    }

    async fn a_thousand_revocations_are_one_snapshot(service: Service) {
        for number in 0..1000 {
            let id = format!("0192f3a4-0000-7000-8000-{number:012}");
            insert(&service.database, &id, 1).await;
        }
        let (mut watch, mut heard) = Watch::begin(service.channel()).await;
        // The last ones may have been read after the begin.
        heard.extend(watch.until_heartbeat().await);
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 1000);
        let mut again = Watch::open(service.channel(), &watch.cursor).await.unwrap();
        again.keys().await;
        let mut heard = again.until_heartbeat().await;
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 1000);
    }
}
