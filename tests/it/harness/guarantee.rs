//! The guarantee about published events, as assertions.

use std::collections::BTreeMap;

use super::{Record, TestDatabase};

/// A record on the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub partition: i32,
    /// The id of the user.
    pub user: String,
    /// The version of the user.
    pub version: i64,
    /// `ce_id`.
    pub event_id: String,
    /// All else that a consumer sees, including the time.
    pub content: Vec<u8>,
}

impl From<Record> for Copy {
    fn from(record: Record) -> Self {
        let header = |name: &str| record.headers[name].clone();
        Self {
            partition: record.partition,
            user: record.key.clone(),
            version: header("ce_sequence").parse().expect("a number"),
            event_id: header("ce_id"),
            content: format!(
                "{} {:?} {:?}",
                record.timestamp, record.headers, record.value
            )
            .into_bytes(),
        }
    }
}

/// All records on the topic. Those of one partition are in their order.
#[derive(Debug)]
pub struct Published(pub Vec<Copy>);

impl Published {
    /// Checks the guarantee: "every committed registration reaches Kafka at least once; the
    /// first occurrences for a user come in version order, in one partition; duplicates are
    /// byte-identical with the same `ce_id`; nothing is published for a rolled-back
    /// registration". Returns how many records were duplicates.
    ///
    /// `committed` are the users of the database with their version. The events in `discarded`
    /// (user, version) must not be published.
    pub fn check(
        &self,
        committed: &BTreeMap<String, i64>,
        discarded: &[(String, i64)],
    ) -> Result<usize, String> {
        let mut firsts = BTreeMap::<&str, Vec<&Copy>>::new();
        let mut events = BTreeMap::<&str, &Copy>::new();
        for copy in &self.0 {
            match events.get(copy.event_id.as_str()) {
                Some(first) if *first == copy => {}
                Some(first) => return Err(format!("{first:?} came again as {copy:?}")),
                None => {
                    events.insert(&copy.event_id, copy);
                    firsts.entry(&copy.user).or_default().push(copy);
                }
            }
        }
        for (user, copies) in &firsts {
            if !committed.contains_key(*user) {
                return Err(format!("{user} was never committed: {copies:?}"));
            }
            if copies
                .iter()
                .any(|copy| copy.partition != copies[0].partition)
            {
                return Err(format!("{user} is in two partitions: {copies:?}"));
            }
        }
        for (user, &version) in committed {
            let expected: Vec<i64> = (1..=version)
                .filter(|version| !discarded.contains(&(user.clone(), *version)))
                .collect();
            let copies = firsts.get(user.as_str()).map_or(&[][..], Vec::as_slice);
            let found: Vec<i64> = copies.iter().map(|copy| copy.version).collect();
            if found != expected {
                return Err(format!(
                    "{user}: versions {found:?} instead of {expected:?}"
                ));
            }
        }
        Ok(self.0.len() - events.len())
    }
}

impl TestDatabase {
    /// All users with the version of their last event.
    pub async fn versions(&self) -> BTreeMap<String, i64> {
        let id = self.hex("id");
        let sql = format!("SELECT {id} || ' ' || event_version FROM users");
        let rows = self.texts(&sql).await.into_iter().flatten();
        rows.map(|row| {
            let (id, version) = row.split_once(' ').expect("two fields");
            let id = uuid::Uuid::parse_str(id).expect("a UUID");
            (id.to_string(), version.parse().expect("a number"))
        })
        .collect()
    }
}
