//! The poller, the outbox in the database, and Kafka.
//!
//! Tests that need an exact fault answer in place of Kafka. They call `tick`, so they
//! need not wait.

mod advance;
mod backlog;
mod commit;
mod kafka;
mod kafka_faults;
mod lease;
mod model;
mod order;
mod parking;
mod poller;
mod wake;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::{
    db::Db,
    model::{PendingEvent, Timestamp},
    outbox::{
        Metrics, Poller,
        publisher::{BatchInPass, PublishError, Published, Publisher},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use prometheus_client::registry::Registry;
use tokio::{sync::Notify, time::Instant};

use crate::harness::{ManualClock, START, Service, TestDatabase, db};

type Answer = Box<dyn FnOnce(&[PendingEvent]) -> Published + Send>;

/// A publisher that acknowledges everything, unless the test has prepared another answer.
#[derive(Default)]
pub struct Fake {
    answers: Mutex<VecDeque<Answer>>,
    batches: Mutex<Vec<Vec<PendingEvent>>>,
}

impl Fake {
    fn next(&self, answer: impl FnOnce(&[PendingEvent]) -> Published + Send + 'static) {
        self.answers.lock().unwrap().push_back(Box::new(answer));
    }

    /// Type and version of the events of the last call.
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

/// A poller on this database.
fn poller(database: &TestDatabase, publisher: &Arc<impl Publisher + 'static>) -> Poller {
    poller_at(
        open(database),
        Arc::clone(publisher) as Arc<dyn Publisher>,
        START,
    )
}

/// A poller on a machine where the time is `now`.
pub fn poller_at(db: Db, publisher: Arc<dyn Publisher>, now: Timestamp) -> Poller {
    Poller::new(
        db,
        publisher,
        Arc::new(ManualClock::new(now)),
        Arc::new(Notify::new()),
        Metrics::register(&mut Registry::default()),
    )
}

fn open(database: &TestDatabase) -> Db {
    db(database, Duration::from_secs(10))
}

/// Registers an account with a session. Returns the user id and the refresh token.
async fn sign_up(service: &Service, email: &str) -> (String, String) {
    let session = service.sign_up(email).await;
    (session.user_id, session.tokens.refresh_token)
}

async fn log_out(service: &Service, token: &str) {
    service.log_out(token).await.unwrap();
}

fn created(version: i64) -> (String, i64) {
    ("USER_CREATED".to_owned(), version)
}

fn ended(version: i64) -> (String, i64) {
    ("SESSION_ENDED".to_owned(), version)
}

/// Inserts events, each of a random user.
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
