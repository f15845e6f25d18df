//! Many registrations on two replicas: each is one account and one event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use auth_service::proto::user_event::Payload;
use futures::future::join_all;

use super::{decode, java_partition, serve};
use crate::harness::{Backend, EVENTS, Kafka, TestDatabase, register};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_registrations_give_a_thousand_accounts_and_events_on_postgres() {
    if let Some(database) = TestDatabase::create(Backend::Postgres).await {
        register_many(database, 1_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_registrations_give_two_hundred_accounts_and_events_on_sqlite() {
    if let Some(database) = TestDatabase::create(Backend::Sqlite).await {
        register_many(database, 200).await;
    }
}

/// Registers users with two replicas, sixteen at a time.
async fn register_many(database: TestDatabase, count: usize) {
    const WORKERS: usize = 16;
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let long_timeouts = ["--request-timeout", "60s", "--password-max-wait", "59s"];
    let replicas = [
        serve(database.clone(), &kafka, &long_timeouts).await,
        serve(database.clone(), &kafka, &long_timeouts).await,
    ];
    let workers = (0..WORKERS).map(|worker| {
        let mut client = replicas[worker % 2].client();
        async move {
            let mut users = Vec::new();
            for n in (worker..count).step_by(WORKERS) {
                let email = format!("user-{n}@example.com");
                let response = client
                    .register(register(&email))
                    .await
                    .unwrap()
                    .into_inner();
                users.push((response.user_id, email));
            }
            users
        }
    });
    let users: BTreeMap<_, _> = join_all(workers).await.into_iter().flatten().collect();
    assert_eq!(users.len(), count);
    database.wait_for(EVENTS, 0).await;
    assert_eq!(
        database.count("SELECT count(*) FROM users").await,
        i64::try_from(count).unwrap()
    );

    // Delivery is at least once: only exact duplicates are allowed.
    let mut events = HashMap::new();
    let mut emails = BTreeSet::new();
    for record in kafka.records().await {
        let Some(Payload::UserCreated(created)) = decode(&record).payload else {
            panic!("another payload");
        };
        assert_eq!(users[&record.key], created.email);
        assert_eq!(record.partition, java_partition(&record.key));
        emails.insert(created.email);
        let first = events
            .entry(record.headers["ce_id"].clone())
            .or_insert_with(|| record.clone());
        assert_eq!(
            (&first.value, &first.headers),
            (&record.value, &record.headers)
        );
    }
    assert_eq!((events.len(), emails.len()), (count, count));
}
