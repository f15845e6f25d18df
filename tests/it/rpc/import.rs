//! `ImportUsers`: accounts of another system.

mod ends;
mod known;
mod logins;
mod races;
mod rows;
mod streams;

use auth_service::proto::{self, user_event::Payload};

use super::recovery::Mailing;
use crate::harness::{Admin, EVENTS, IMPORTER, USERS, admin, import, outcomes};

const ANA: &str = "ana@example.com";
/// Ids of another system: version 4.
const ID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const OTHER_ID: &str = "3f333df6-90a4-4fda-8dd3-9485d27cee36";

impl Mailing {
    fn importer(&self) -> Admin {
        admin(self.0.channel(), IMPORTER)
    }

    /// The results of these rows, without an error.
    async fn import(&self, rows: Vec<proto::ImportUser>) -> Vec<proto::ImportResult> {
        let count = rows.len();
        let (results, ended) = import(self.importer(), rows).await;
        ended.expect("no error");
        assert_eq!(results.len(), count);
        results
    }

    /// What became of these rows.
    async fn outcomes(&self, rows: Vec<proto::ImportUser>) -> Vec<String> {
        outcomes(&self.import(rows).await)
    }

    /// There are so many accounts, each with its one event.
    async fn assert_each_announced_once(&self, users: usize) {
        let users = i64::try_from(users).expect("few");
        assert_eq!(self.0.database.count(USERS).await, users);
        assert_eq!(self.0.database.count(EVENTS).await, users);
        let announced = "SELECT count(*) FROM users AS u JOIN outbox_events AS e ON e.user_id = u.id \
             WHERE e.event_type = 'USER_CREATED' AND e.user_version = 1 AND u.event_version = 1";
        assert_eq!(self.0.database.count(announced).await, users);
    }
}

fn named(email: &str, user_id: &str) -> proto::ImportUser {
    proto::ImportUser {
        email: email.to_owned(),
        user_id: user_id.to_owned(),
        ..Default::default()
    }
}

fn created(payload: Option<Payload>) -> proto::UserCreated {
    match payload {
        Some(Payload::UserCreated(created)) => created,
        _ => panic!("another payload"),
    }
}
