//! What must be true when the dust has settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{customers::Account, fleet::Balancer};
use crate::harness::{Backend, Copy, EVENTS, Kafka, Published, TestDatabase};

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
    let committed = users.values().cloned().collect();
    let published = Published(records.iter().cloned().map(Copy::from).collect());
    let duplicates = published.check(&committed, &[]).expect("the guarantee");
    for account in accounts {
        let (user, _) = &users[&account.email];
        let of_type = |wanted: &str| {
            let found = records.iter().filter(|record| record.key == *user);
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
        while database.count(EVENTS).await > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(90), empty)
        .await
        .expect("the outbox drains");
}

/// The ids and event versions of all accounts by address.
async fn users(database: &TestDatabase) -> BTreeMap<String, (String, i64)> {
    let id = match database.backend() {
        Backend::Sqlite => "lower(hex(id))",
        Backend::Postgres => "replace(id::text, '-', '')",
    };
    let sql = format!("SELECT email || ' ' || {id} || ' ' || event_version FROM users");
    let rows = database.texts(&sql).await;
    rows.into_iter()
        .map(|row| {
            let row = row.expect("not NULL");
            let [email, id, version] = row.split(' ').collect::<Vec<_>>()[..] else {
                panic!("three columns: {row}")
            };
            let id = uuid::Uuid::parse_str(id).expect("a UUID");
            let version = version.parse().expect("a number");
            (email.to_owned(), (id.to_string(), version))
        })
        .collect()
}
