//! The poller and the outbox in the database. A fake publisher stands in for Kafka where a
//! fault must be exact, and `tick` for time.

mod backlog;
mod commit;
mod kafka;
mod kafka_faults;
mod lease;
mod model;
mod parking;
mod wake;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::{
    db::Db,
    model::PendingEvent,
    outbox::{
        Metrics, Outcome, Poller,
        publisher::{BatchInPass, PublishError, Published, Publisher},
    },
    proto::RegisterRequest,
};
use futures::{FutureExt as _, future::BoxFuture};
use prometheus_client::registry::Registry;
use tokio::{sync::Notify, time::Instant};

use crate::harness::{ManualClock, START, Service, TestDatabase, both, config, logout, register};

const EVENTS: &str = "SELECT count(*) FROM outbox_events";
const PARKED: &str = "SELECT count(*) FROM outbox_events WHERE parked_at IS NOT NULL";

type Answer = Box<dyn FnOnce(&[PendingEvent]) -> Published + Send>;

/// Takes everything, unless an answer was laid ready.
#[derive(Default)]
struct Fake {
    answers: Mutex<VecDeque<Answer>>,
    batches: Mutex<Vec<Vec<PendingEvent>>>,
}

impl Fake {
    fn next(&self, answer: impl FnOnce(&[PendingEvent]) -> Published + Send + 'static) {
        self.answers.lock().unwrap().push_back(Box::new(answer));
    }

    /// Type and version of what was offered last.
    fn offered(&self) -> Vec<(String, i64)> {
        let batches = self.batches.lock().unwrap();
        let last = batches.last().into_iter().flatten();
        last.map(|event| (event.event_type.clone(), event.user_version))
            .collect()
    }

    fn batches(&self) -> Vec<Vec<PendingEvent>> {
        self.batches.lock().unwrap().clone()
    }
}

impl Publisher for Fake {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        _: BatchInPass,
        _: Instant,
    ) -> BoxFuture<'a, Published> {
        self.batches.lock().unwrap().push(events.to_vec());
        let answer = self.answers.lock().unwrap().pop_front();
        let published = answer.map_or_else(|| acknowledged(events), |answer| answer(events));
        async { published }.boxed()
    }
}

fn acknowledged(events: &[PendingEvent]) -> Published {
    Published {
        acknowledged: events.iter().map(|event| event.id).collect(),
        ..Published::default()
    }
}

fn fault() -> PublishError {
    PublishError::Timeout(Duration::from_secs(5))
}

fn db(database: &TestDatabase) -> Db {
    Db::new(
        &config(database, &[]).database,
        Duration::from_secs(10),
        &mut Registry::default(),
    )
}

fn poller(database: &TestDatabase, publisher: &Arc<impl Publisher + 'static>) -> Poller {
    Poller::new(
        db(database),
        Arc::clone(publisher) as Arc<dyn Publisher>,
        Arc::new(ManualClock::new(START)),
        Arc::new(Notify::new()),
        Metrics::register(&mut Registry::default()),
    )
}

/// An account with a session; its user id and refresh token.
async fn sign_up(service: &Service, email: &str) -> (String, String) {
    let request = RegisterRequest {
        start_session: true,
        ..register(email)
    };
    let response = service.client().register(request).await.unwrap();
    let response = response.into_inner();
    (response.user_id, response.tokens.unwrap().refresh_token)
}

async fn log_out(service: &Service, token: &str) {
    service.client().logout(logout(token)).await.unwrap();
}

fn created(version: i64) -> (String, i64) {
    ("USER_CREATED".to_owned(), version)
}

fn ended(version: i64) -> (String, i64) {
    ("SESSION_ENDED".to_owned(), version)
}

/// Events of nobody in particular, with the ids that the database gives them.
pub async fn insert_events(database: &TestDatabase, count: usize) {
    let uuid = database.dialect("randomblob(16)", "gen_random_uuid()");
    let now = database.dialect("0", "now()");
    let payload = database.dialect("x'00'", r"'\x00'");
    database
        .execute(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO outbox_events
                 (event_id, user_id, user_version, event_type, occurred_at, payload)
             SELECT {uuid}, {uuid}, 1, 'USER_CREATED', {now}, {payload} FROM n"
        ))
        .await;
}

async fn end_lease(database: &TestDatabase) {
    let past = database.dialect("1", "now() - interval '1 second'");
    let sql = format!("UPDATE outbox_lease SET expires_at = {past}");
    database.execute(&sql).await;
}

both! {
    async fn events_are_published_oldest_first_and_deleted_once_acknowledged(service: Service) {
        let (_, ana) = sign_up(&service, "ana@example.com").await;
        let (_, ben) = sign_up(&service, "ben@example.com").await;
        log_out(&service, &ben).await;
        log_out(&service, &ana).await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(fake.offered(), [created(1), created(1), ended(2), ended(2)]);
        assert_eq!(service.database.count(EVENTS).await, 0);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Idle);
        assert_eq!(fake.batches().len(), 1);
    }

    async fn a_fault_of_the_environment_loses_and_parks_nothing(service: Service) {
        sign_up(&service, "ana@example.com").await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        for _ in 0..3 {
            fake.next(|_| Published::unreachable(fault()));
            poller.tick().await.unwrap_err();
            assert_eq!(service.database.count(EVENTS).await, 1);
            assert_eq!(service.database.count(PARKED).await, 0);
        }
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(service.database.count(EVENTS).await, 0);
        let copies: Vec<_> = fake
            .batches()
            .into_iter()
            .flatten()
            .map(|event| (event.id, event.event_id, event.occurred_at, event.payload))
            .collect();
        assert_eq!(copies.len(), 4);
        assert!(copies.iter().all(|copy| *copy == copies[0]));
    }

    async fn what_was_acknowledged_is_deleted_although_there_was_a_fault(service: Service) {
        sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            acknowledged: vec![events[0].id],
            fault: Some(fault()),
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap_err();
        assert_eq!(service.database.count(EVENTS).await, 1);
        poller.tick().await.unwrap();
        let batches = fake.batches();
        assert_eq!(batches[1].len(), 1);
        assert_eq!(batches[1][0].event_id, batches[0][1].event_id);
    }

    async fn what_was_refused_is_parked_although_there_was_a_fault(service: Service) {
        sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            refused: vec![(events[0].id, "too large".to_owned())],
            fault: Some(fault()),
            ..Published::default()
        });
        poller(&service.database, &fake).tick().await.unwrap_err();
        assert_eq!(service.database.count(EVENTS).await, 2);
        assert_eq!(service.database.count(PARKED).await, 1);
    }

    async fn a_backlog_is_read_in_batches_until_it_is_gone(service: Service) {
        insert_events(&service.database, 1_001).await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        while poller.tick().await.unwrap() == Outcome::Progress {}
        let batches = fake.batches();
        assert!(batches.len() > 1);
        let ids: Vec<_> = batches.iter().flatten().map(|event| event.id).collect();
        assert_eq!(ids.len(), 1_001);
        assert!(ids.is_sorted());
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn an_event_is_published_again_if_the_poller_dies_before_it_is_deleted(service: Service) {
        /// Sends everything, and the poller never hears of it.
        #[derive(Default)]
        struct LostReply(Fake, Notify);
        impl Publisher for LostReply {
            fn publish<'a>(
                &'a self,
                events: &'a [PendingEvent],
                batch: BatchInPass,
                until: Instant,
            ) -> BoxFuture<'a, Published> {
                async move {
                    self.0.publish(events, batch, until).await;
                    self.1.notify_one();
                    std::future::pending().await
                }
                .boxed()
            }
        }

        sign_up(&service, "ana@example.com").await;
        let lost = Arc::new(LostReply::default());
        let mut dying = poller(&service.database, &lost);
        tokio::select! {
            _ = dying.tick() => panic!("the publisher never answers"),
            () = lost.1.notified() => drop(dying),
        }
        let idle_in_transaction = service.database.dialect(
            "SELECT 0",
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        );
        assert_eq!(service.database.count(idle_in_transaction).await, 0);
        assert_eq!(service.database.count(EVENTS).await, 1);

        end_lease(&service.database).await;
        let fake = Arc::new(Fake::default());
        poller(&service.database, &fake).tick().await.unwrap();
        let copy = |fake: &Fake| {
            fake.batches()[0]
                .iter()
                .map(|event| (event.event_id, event.user_version, event.payload.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(copy(&fake), copy(&lost.0));
        assert_eq!(service.database.count(EVENTS).await, 0);
    }
}
