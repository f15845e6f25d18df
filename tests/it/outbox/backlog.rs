//! A backlog that cannot be published does not delay events that can.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::{
    model::{PendingEvent, UserId},
    outbox::{
        Outcome, Poller,
        publisher::{BatchInPass, PublishError, Published, Publisher},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{open, poller_at};
use crate::harness::{Backend, EVENTS, START, Service, TestDatabase, both, register};

/// Half of a cluster: it does not accept the events of one user.
struct HalfDead {
    unreachable: UserId,
    taken: Mutex<Vec<i64>>,
    /// The user and the version of each event that it was offered.
    seen: Mutex<Vec<(UserId, i64)>>,
}

impl Publisher for HalfDead {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        _: BatchInPass,
        _: Instant,
    ) -> BoxFuture<'a, Published> {
        let reachable = events
            .iter()
            .filter(|event| event.user_id != self.unreachable);
        let acknowledged: Vec<_> = reachable.map(|event| event.id).collect();
        let fault = (acknowledged.len() < events.len())
            .then(|| PublishError::Timeout(Duration::from_secs(5)));
        let published = Published {
            acknowledged,
            fault,
            ..Published::default()
        };
        let seen = events
            .iter()
            .map(|event| (event.user_id, event.user_version));
        self.seen.lock().unwrap().extend(seen);
        let mut taken = self.taken.lock().unwrap();
        taken.extend(&published.acknowledged);
        async { published }.boxed()
    }
}

/// Inserts `count` events of this user, from this version on.
async fn insert_events(database: &TestDatabase, user: UserId, version: i64, count: i64) {
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
             SELECT {event}, {user}, {version} + i - 1, 'SESSION_ENDED', {now}, {payload} FROM n"
        ))
        .await;
}

both! {
    async fn an_unreachable_partition_delays_no_other_however_long_its_backlog(service: Service) {
        const BACKLOG: i64 = 20_000;
        let unreachable = UserId::from_bytes([7; 16]);
        insert_events(&service.database, unreachable, 1, BACKLOG).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let (mut poller, half_dead) = half_dead(&service, unreachable);
        let pass = poll_to_the_fault(&mut poller).await;
        assert_eq!(pass, 20, "each event is tried once before the pause");
        assert_eq!(half_dead.taken.lock().unwrap().len(), 1);
        assert_eq!(service.database.count(EVENTS).await, BACKLOG);
        // The next try begins with the oldest event again.
        half_dead.seen.lock().unwrap().clear();
        poller.tick().await.unwrap();
        assert_eq!(half_dead.seen.lock().unwrap()[0], (unreachable, 1));
    }

    async fn an_event_that_becomes_visible_behind_the_reader_still_goes_before_the_next_one(service: Service) {
        let (unreachable, late) = (UserId::from_bytes([7; 16]), UserId::from_bytes([8; 16]));
        insert_events(&service.database, late, 1, 1).await;
        insert_events(&service.database, unreachable, 1, 1_500).await;
        let (mut poller, half_dead) = half_dead(&service, unreachable);
        hide_first(&service.database).await;
        poller.tick().await.unwrap();
        show_first(&service.database).await;
        insert_events(&service.database, late, 2, 1).await;
        poll_to_the_fault(&mut poller).await;
        let of_late = || half_dead.seen.lock().unwrap().iter()
            .filter(|(user, _)| *user == late).map(|(_, version)| *version).collect::<Vec<_>>();
        assert_eq!(of_late(), Vec::<i64>::new(), "the second one went first");
        poll_to_the_fault(&mut poller).await;
        assert_eq!(of_late(), [1, 2]);
    }

    async fn an_event_that_becomes_visible_behind_a_reader_without_faults_goes_with_the_next_pass(service: Service) {
        let [other, late] = [7, 8].map(|byte| UserId::from_bytes([byte; 16]));
        insert_events(&service.database, late, 1, 1).await;
        insert_events(&service.database, other, 1, 2_500).await;
        let (mut poller, reached) = half_dead(&service, UserId::from_bytes([9; 16]));
        hide_first(&service.database).await;
        poller.tick().await.unwrap();
        show_first(&service.database).await;
        insert_events(&service.database, late, 2, 1).await;
        while poller.tick().await.unwrap() == Outcome::Progress {}
        let seen = reached.seen.lock().unwrap().clone();
        let of_late = seen.iter().filter(|(user, _)| *user == late).map(|(_, version)| *version);
        assert_eq!(of_late.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(seen.len(), 2_502, "each event is tried once");
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn a_first_event_beyond_the_batch_is_sent_before_the_later_one(service: Service) {
        let (unreachable, late) = (UserId::from_bytes([7; 16]), UserId::from_bytes([8; 16]));
        insert_events(&service.database, late, 2, 1).await;
        insert_events(&service.database, unreachable, 1, 1_500).await;
        insert_events(&service.database, late, 1, 1).await;
        let (mut poller, half_dead) = half_dead(&service, unreachable);
        let of_late = || half_dead.seen.lock().unwrap().iter()
            .filter(|(user, _)| *user == late).map(|(_, version)| *version).collect::<Vec<_>>();
        poll_to_the_fault(&mut poller).await;
        assert_eq!(of_late(), [1, 2]);
        assert_eq!(service.database.count(EVENTS).await, 1_500);
    }
}

/// Takes the first row away, as if its writer had not committed yet.
async fn hide_first(database: &TestDatabase) {
    let first = "FROM outbox_events WHERE id = (SELECT min(id) FROM outbox_events)";
    let hide = format!("CREATE TABLE hidden AS SELECT * {first}");
    database.execute(&hide).await;
    database.execute(&format!("DELETE {first}")).await;
}

/// Its writer commits.
async fn show_first(database: &TestDatabase) {
    let identity = match database.backend() {
        Backend::Sqlite => "",
        Backend::Postgres => "OVERRIDING SYSTEM VALUE",
    };
    let show = format!("INSERT INTO outbox_events {identity} SELECT * FROM hidden");
    database.execute(&show).await;
}

/// A poller that publishes to half of a cluster.
fn half_dead(service: &Service, unreachable: UserId) -> (Poller, Arc<HalfDead>) {
    let half_dead = Arc::new(HalfDead {
        unreachable,
        taken: Mutex::default(),
        seen: Mutex::default(),
    });
    let publisher = Arc::clone(&half_dead) as Arc<dyn Publisher>;
    let poller = poller_at(open(&service.database), publisher, START);
    (poller, half_dead)
}

/// The number of ticks before the first one that fails.
async fn poll_to_the_fault(poller: &mut Poller) -> usize {
    let mut ticks = 0;
    while poller.tick().await.is_ok() {
        ticks += 1;
    }
    ticks
}
