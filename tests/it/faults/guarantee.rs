//! The promises that must hold after the faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    clients::{Account, Clients},
    fleet::{Balancer, Fleet},
};
use crate::harness::{Copy, EVENTS, Kafka, Published, TestDatabase};

/// Stops the clients and checks both promises: to them, and about events. Prints how much
/// happened.
pub async fn assert_holds(
    clients: Clients,
    fleet: &Fleet,
    database: &TestDatabase,
    kafka: &Kafka,
) -> Vec<Account> {
    let mut accounts = clients.stop().await;
    assert_kept(&mut accounts, &fleet.balancer).await;
    let duplicates = assert_published(database, kafka, &accounts).await;
    let (answered, failed) = fleet.balancer.counts();
    eprintln!(
        "{} accounts, {answered} calls answered, {failed} failed, {duplicates} duplicates",
        accounts.len()
    );
    accounts
}

/// Every acknowledged account can log in, the last token of every client works, and every session
/// whose logout was acknowledged has ended.
pub async fn assert_kept(accounts: &mut [Account], balancer: &Balancer) {
    for account in accounts {
        account.assert_ended(balancer).await;
        account.refresh(balancer).await;
        account.log_in(balancer).await;
    }
}

/// Waits until the outbox is empty, and checks the guarantee for events. Returns the number of
/// duplicates.
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
        // A higher number would mean sessions that ended for another reason, such as reuse.
        assert_eq!(
            of_type("SESSION_ENDED"),
            account.ended.len(),
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

/// The id and the event version of each account, by e-mail address.
async fn users(database: &TestDatabase) -> BTreeMap<String, (String, i64)> {
    let id = database.hex("id");
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
