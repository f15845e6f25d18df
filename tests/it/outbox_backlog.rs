//! A backlog that cannot be published does not hold up what can.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::{
    clock::ManualClock,
    db::{Db, outbox::PendingEvent},
    id::UserId,
    outbox::{
        Poller,
        publisher::{PublishError, Published, Publisher},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{sync::Notify, time::Instant};

use crate::harness::{Backend, START, Service, TestDatabase, both, config, register};

/// Half of a cluster: it does not take the events of one user.
struct HalfDead {
    unreachable: UserId,
    taken: Mutex<Vec<i64>>,
}

impl Publisher for HalfDead {
    fn publish<'a>(&'a self, events: &'a [PendingEvent], _: Instant) -> BoxFuture<'a, Published> {
        let reachable = events
            .iter()
            .filter(|event| event.user_id != self.unreachable);
        let published = Published {
            acknowledged: reachable.map(|event| event.id).collect(),
            fault: Some(PublishError::Timeout(Duration::from_secs(5))),
            ..Published::default()
        };
        let mut taken = self.taken.lock().unwrap();
        taken.extend(&published.acknowledged);
        async { published }.boxed()
    }
}

/// So many events of this user, without the service.
async fn insert_events(database: &TestDatabase, user: UserId, count: i64) {
    let hex = user.to_string().replace('-', "");
    let (user, event, now, payload) = match database.backend() {
        Backend::Sqlite => (format!("x'{hex}'"), "randomblob(16)", "0", "x''"),
        Backend::Postgres => (format!("uuid '{hex}'"), "gen_random_uuid()", "now()", "''"),
    };
    database
        .execute(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO outbox_events
                 (event_id, user_id, user_version, event_type, occurred_at, payload)
             SELECT {event}, {user}, i, 'SESSION_ENDED', {now}, {payload} FROM n"
        ))
        .await;
}

both! {
    async fn a_partition_that_is_gone_holds_up_no_other_however_long_its_backlog(service: Service) {
        let unreachable = UserId::from_bytes([7; 16]);
        insert_events(&service.database, unreachable, 5_000).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let half_dead = Arc::new(HalfDead { unreachable, taken: Mutex::default() });
        let mut poller = Poller::new(
            Db::new(&config(&service.database, &[]).database, Duration::from_secs(10)),
            Arc::clone(&half_dead) as Arc<dyn Publisher>,
            Arc::new(ManualClock::new(START)),
            Arc::new(Notify::new()),
        );
        // 1,000 events are read, then 2,000, 4,000, 8,000.
        for _ in 0..4 {
            poller.tick().await.unwrap_err();
        }
        assert_eq!(half_dead.taken.lock().unwrap().len(), 1);
        let left = service.database.count("SELECT count(*) FROM outbox_events").await;
        assert_eq!(left, 5_000);
    }
}
