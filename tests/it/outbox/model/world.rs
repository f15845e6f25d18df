//! Accounts, writers, pollers and the database of the model.

mod pollers;
mod writers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use auth_service::{db::Db, model::UserId};
use tokio_postgres::NoTls;

use self::{
    pollers::{Replica, State},
    writers::{Late, decide_commits},
};
use super::{POLLERS, Step, USERS, broker::Broker, numbers::Numbers};
use crate::harness::{Backend, EVENTS, ManualClock, START, TestDatabase, build, db};

/// No writer waits longer.
const TIMEOUT: Duration = Duration::from_mins(1);

/// All that the script acts on.
pub struct World {
    pub database: TestDatabase,
    pub broker: Broker,
    db: Db,
    users: [Option<UserId>; USERS],
    /// Transactions that are about to end.
    late: Vec<Late>,
    pollers: Vec<Replica>,
    /// On Postgres: holds the advisory locks for which late transactions wait.
    gates: Option<tokio_postgres::Client>,
    /// Users that exist according to the answers that writers got.
    created: Vec<UserId>,
    /// Users that do not exist according to those answers.
    rolled_back: Vec<UserId>,
    pub numbers: Numbers,
}

impl World {
    pub async fn new(database: TestDatabase) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        drop(build(&database, clock, &[]).await.expect("migrated"));
        database.execute(decide_commits(database.backend())).await;
        let gates = match database.backend() {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let connected = tokio_postgres::connect(&database.direct_url(), NoTls).await;
                let (client, connection) = connected.expect("Postgres answers");
                tokio::spawn(connection);
                Some(client)
            }
        };
        Self {
            broker: Broker::default(),
            db: db(&database, TIMEOUT),
            users: [None; USERS],
            late: Vec::new(),
            pollers: (0..POLLERS).map(|_| Replica::start(&database)).collect(),
            gates,
            database,
            created: Vec::new(),
            rolled_back: Vec::new(),
            numbers: Numbers::default(),
        }
    }

    pub async fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { user, end } => self.write(user, end).await,
            Step::Settle(which) => self.settle(which).await,
            Step::Tick(poller) => self.tick(poller).await,
            Step::Send {
                poller,
                partition,
                records,
                fate,
            } => {
                if let Some(poller) = self.calling(poller)
                    && let State::Calling(_, call) = &mut self.pollers[poller].state
                {
                    call.send(&self.broker, partition, records, fate);
                }
            }
            Step::Answer(poller) => {
                if let Some(poller) = self.calling(poller) {
                    self.answer(poller).await;
                }
            }
            Step::Crash { poller, steps } => {
                self.crash(self.calling(poller).unwrap_or(poller), steps)
                    .await;
            }
            Step::LoseLease => self.database.end_lease().await,
            Step::Arrive(which) => {
                self.numbers.arrived_late += usize::from(self.broker.arrive(which));
            }
            Step::Requeue => self.requeue().await,
        }
    }

    /// Ends all faults: transactions, calls, late arrivals. Then one poller works undisturbed.
    pub async fn calm_down(&mut self) {
        for _ in 0..self.late.len() {
            self.settle(0).await;
        }
        assert!(self.late.is_empty(), "a transaction does not end");
        let reordered = "SELECT count(*) FROM outbox_events a, outbox_events b
            WHERE a.user_id = b.user_id AND a.user_version < b.user_version AND a.id > b.id";
        let reordered = self.database.count(reordered).await;
        self.numbers.reordered += usize::try_from(reordered).expect("a count");
        for poller in 0..POLLERS {
            self.answer(poller).await;
        }
        loop {
            self.database.end_lease().await;
            loop {
                self.tick(0).await;
                let State::Calling(_, call) = &mut self.pollers[0].state else {
                    break;
                };
                call.send_all(&self.broker);
                self.answer(0).await;
            }
            if self.db.parked_events().await.expect("a query").is_empty() {
                break;
            }
            self.requeue().await;
        }
        while self.broker.arrive(0) {}
        let left = self.database.count(EVENTS).await;
        assert_eq!(left, 0, "an undisturbed poller empties the outbox");
    }

    /// Compares the answers that writers got with the database.
    pub async fn check_answers(&self) -> Result<(), String> {
        let versions: BTreeMap<String, i64> = self.database.versions().await;
        for user in &self.created {
            if !versions.contains_key(&user.to_string()) {
                return Err(format!("{user} was created and is not there"));
            }
        }
        for user in &self.rolled_back {
            if versions.contains_key(&user.to_string()) {
                return Err(format!("{user} was rolled back and is there"));
            }
        }
        Ok(())
    }
}
