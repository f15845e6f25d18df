//! The order of a user's events comes from their versions. Their row ids may lie in any order.

use std::sync::Arc;

use auth_service::{
    model::{PendingEvent, UserId},
    outbox::{Outcome, Poller, publisher::Published},
};

use super::{Fake, log_out, open, poller};
use crate::harness::{Backend, EVENTS, ManualClock, PARKED, START, Service, TestDatabase, both};

/// An event to insert: its row id, its user and its version.
type Row = (i64, u8, i64);

async fn insert(database: &TestDatabase, rows: impl IntoIterator<Item = Row>) {
    let (event, now, payload, identity) = match database.backend() {
        Backend::Sqlite => ("randomblob(16)", "0", "x''", ""),
        Backend::Postgres => (
            "gen_random_uuid()",
            "now()",
            "''",
            "OVERRIDING SYSTEM VALUE",
        ),
    };
    let values = rows.into_iter().map(|(id, user, version)| {
        let user = database.id(&UserId::from_bytes([user; 16]).to_string());
        format!("({id}, {event}, {user}, {version}, 'SESSION_ENDED', {now}, {payload})")
    });
    let values: Vec<_> = values.collect();
    let columns = "id, event_id, user_id, user_version, event_type, occurred_at, payload";
    let values = values.join(", ");
    let sql = format!("INSERT INTO outbox_events ({columns}) {identity} VALUES {values}");
    database.execute(&sql).await;
}

async fn empty(poller: &mut Poller) {
    while poller.tick().await.unwrap() == Outcome::Progress {}
}

fn versions(events: &[PendingEvent], user: u8) -> Vec<i64> {
    let events = events.iter();
    let own = events.filter(|event| event.user_id == UserId::from_bytes([user; 16]));
    own.map(|event| event.user_version).collect()
}

both! {
    async fn events_go_in_the_order_of_their_versions(service: Service) {
        let rows = [(1, 1, 3), (2, 2, 7), (3, 1, 1), (4, 2, 4), (5, 1, 2)];
        insert(&service.database, rows).await;
        let fake = Arc::new(Fake::default());
        empty(&mut poller(&service.database, &fake)).await;
        let batches = fake.batches();
        assert_eq!(versions(&batches[0], 1), [1, 2, 3]);
        assert_eq!(versions(&batches[0], 2), [4, 7]);
        assert_eq!(batches.len(), 1);
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn a_first_event_with_the_highest_id_starves_nobody(service: Service) {
        // The later events of one user fill the first batch, those of another are upside down.
        let later = (1..=1_100).map(|id| (id, 1, id + 1));
        let upside_down = (0..1_050).map(|n| (2_000 + n, 2, 1_050 - n));
        let others = (3..=9).map(|user| (5_000 + i64::from(user), user, 1));
        insert(&service.database, later.chain(upside_down).chain(others)).await;
        insert(&service.database, [(9_000, 1, 1)]).await;
        let fake = Arc::new(Fake::default());
        empty(&mut poller(&service.database, &fake)).await;
        let events = fake.batches().concat();
        assert!(versions(&events, 1).into_iter().eq(1..=1_101));
        assert!(versions(&events, 2).into_iter().eq(1..=1_050));
        assert!((3..=9).all(|user| versions(&events, user) == [1]));
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn a_parked_event_holds_up_later_ones_with_lower_ids(service: Service) {
        insert(&service.database, [(1, 1, 2), (2, 1, 1), (3, 2, 1)]).await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            acknowledged: vec![3],
            refused: vec![(events[0].id, "too large".to_owned())],
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        empty(&mut poller).await;
        assert_eq!(service.database.count(PARKED).await, 1);
        assert_eq!(service.database.count(EVENTS).await, 2);
        let parked = open(&service.database).parked_events().await.unwrap();
        assert_eq!(parked[0].user_version, 1);
        open(&service.database).requeue_event(parked[0].event_id).await.unwrap();
        empty(&mut poller).await;
        assert_eq!(versions(&fake.batches()[1], 1), [1, 2]);
        assert_eq!(service.database.count(EVENTS).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_connections_drew_in_advance_do_not_reorder_events_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let options = ["--database-max-connections", "1"];
    let one = Service::start(database.clone(), &options).await;
    database
        .execute("ALTER SEQUENCE outbox_events_id_seq CACHE 100")
        .await;
    let clock = Arc::new(ManualClock::new(START));
    let other = Service::start_at(database.clone(), clock, &options).await;
    // The first connection draws its ids, then the second one.
    one.sign_up("first@example.com").await;
    let ana = other.sign_up("ana@example.com").await;
    log_out(&one, &ana.tokens.refresh_token).await;
    let reordered = "SELECT count(*) FROM outbox_events a, outbox_events b
        WHERE a.user_id = b.user_id AND a.user_version < b.user_version AND a.id > b.id";
    assert_eq!(database.count(reordered).await, 1);

    let fake = Arc::new(Fake::default());
    empty(&mut poller(&database, &fake)).await;
    let events = fake.batches().concat();
    let own = events
        .iter()
        .filter(|event| event.user_id.to_string() == ana.user_id);
    assert!(own.map(|event| event.user_version).eq([1, 2]));
}
