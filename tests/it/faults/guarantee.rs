//! What must be true when the dust has settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{customers::Account, fleet::Balancer};
use crate::harness::{Backend, Kafka, Record, TestDatabase};

/// Every acknowledged account can log in, and every client's last token still works.
pub async fn assert_kept(accounts: &mut [Account], balancer: &Balancer) {
    for account in accounts {
        account.refresh(balancer).await;
        account.log_in(balancer).await;
    }
}

/// Waits until everything is published, and holds it against the guarantee for events.
/// Returns how many records were duplicates.
pub async fn assert_published(
    database: &TestDatabase,
    kafka: &Kafka,
    accounts: &[Account],
) -> usize {
    drained(database).await;
    let records = kafka.records().await;
    let users = users(database).await;

    let mut events: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &records {
        assert!(
            users.values().any(|id| *id == record.key),
            "nobody: {record:?}"
        );
        events.entry(&record.key).or_default().push(record);
    }
    let mut duplicates = 0;
    for (user, events) in &mut events {
        let partitions: BTreeSet<_> = events.iter().map(|record| record.partition).collect();
        assert_eq!(partitions.len(), 1, "{user} is in {partitions:?}");
        events.sort_by_key(|record| record.offset);
        duplicates += assert_ordered(events);
    }
    for account in accounts {
        let user = &users[&account.email];
        let of_type = |wanted: &str| {
            let found = events.get(&**user).into_iter().flatten();
            let found = found.filter(|record| record.headers["ce_type"] == wanted);
            found
                .map(|record| &record.headers["ce_id"])
                .collect::<BTreeSet<_>>()
                .len()
        };
        assert_eq!(of_type("USER_CREATED"), 1, "{}", account.email);
        // More would be sessions that ended for another reason, such as reuse.
        assert_eq!(
            of_type("SESSION_ENDED"),
            account.logouts as usize,
            "{}",
            account.email
        );
    }
    duplicates
}

/// Waits until the outbox is empty.
pub async fn drained(database: &TestDatabase) {
    let empty = async {
        while database.count("SELECT count(*) FROM outbox_events").await > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(90), empty)
        .await
        .expect("the outbox drains");
}

/// First occurrences count 1, 2, 3, ..; whatever else there is repeats one of them.
fn assert_ordered(events: &[&Record]) -> usize {
    let mut first: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in events {
        let known = first.len();
        match first.get(&*record.headers["ce_id"]) {
            Some(same) => {
                assert_eq!(
                    (&same.value, &same.headers),
                    (&record.value, &record.headers)
                );
            }
            None => {
                let version: usize = record.headers["ce_sequence"].parse().expect("a number");
                assert_eq!(version, known + 1, "out of order: {events:#?}");
                first.insert(&record.headers["ce_id"], record);
            }
        }
    }
    events.len() - first.len()
}

/// The ids of all accounts by address.
async fn users(database: &TestDatabase) -> BTreeMap<String, String> {
    let id = match database.backend() {
        Backend::Sqlite => "lower(hex(id))",
        Backend::Postgres => "replace(id::text, '-', '')",
    };
    let sql = format!("SELECT email || ' ' || {id} FROM users");
    let rows = database.texts(&sql).await;
    rows.into_iter()
        .map(|row| {
            let row = row.expect("not NULL");
            let (email, id) = row.split_once(' ').expect("two columns");
            let id = uuid::Uuid::parse_str(id).expect("a UUID");
            (email.to_owned(), id.to_string())
        })
        .collect()
}
