//! Transactions that commit, roll back or crash, at once or later.

use std::time::Duration;

use auth_service::{
    db::{self, Db, NewUser, Registration},
    model::{
        Act, Email, Event, EventId, Form, Payload, SessionEnd, SessionEndReason, SessionId,
        StoredHash, Traceparent, UserId,
    },
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{TIMEOUT, World};
use crate::{
    harness::{Backend, START, TestDatabase},
    outbox::model::{End, USERS},
};

/// A transaction that is about to end.
pub struct Late {
    user: usize,
    user_id: UserId,
    gate: i64,
    end: End,
    writing: JoinHandle<Result<bool, db::Error>>,
    registers: bool,
}

impl World {
    /// Registers the user, or ends a session of a registered user.
    pub(super) async fn write(&mut self, user: usize, end: End) {
        let pending = self
            .late
            .iter()
            .any(|late| late.user == user && late.registers);
        if pending || self.late.len() == USERS {
            return;
        }
        let registers = self.users[user].is_none();
        let user_id = self.users[user].unwrap_or_else(|| UserId::new(START));
        let act = act();
        // A second transaction of a user waits for the first one anyway.
        let behind = self.late.iter().any(|late| late.user == user);
        let end = match end {
            End::Commit if behind => End::CommitLate,
            End::RollBack if behind => End::RollBackLate,
            end => end,
        };
        let is_late = self.gates.is_some() && !matches!(end, End::Commit | End::RollBack);
        let rolls_back = match end {
            End::RollBack | End::RollBackLate => true,
            End::CrashLate => !is_late, // on SQLite a crash is a roll-back
            End::Commit | End::CommitLate => false,
        };
        let gate = self.decide(&act, rolls_back, is_late).await;
        let session = (!registers).then(|| SessionId::new(START));
        if let Some(session) = session {
            start_session(&self.database, session, user_id).await;
        }
        let writing = tokio::spawn(commit(self.db.clone(), user_id, session, act));
        let mut late = Late {
            user,
            user_id,
            gate,
            end,
            writing,
            registers,
        };
        if is_late {
            self.late.push(late);
            self.await_locks().await;
        } else {
            let written = (&mut late.writing).await.expect("no panic");
            self.finish(&late, &written);
        }
    }

    /// Writes into the database how the transaction of this act must end.
    async fn decide(&self, act: &Act, rolls_back: bool, is_late: bool) -> i64 {
        let traceparent = act.traceparent.as_ref().expect("every act has one");
        let Some(gates) = &self.gates else {
            if rolls_back {
                let sql = format!("INSERT INTO fates VALUES ('{}')", traceparent.as_str());
                self.database.execute(&sql).await;
            }
            return 0;
        };
        let row = gates
            .query_one(
                "INSERT INTO fates (traceparent, rolls_back) VALUES ($1, $2) RETURNING gate",
                &[&traceparent.as_str(), &rolls_back],
            )
            .await
            .expect("a statement");
        let gate = row.get(0);
        if is_late {
            let locked = gates.execute("SELECT pg_advisory_lock($1)", &[&gate]).await;
            locked.expect("the lock is free");
        }
        gate
    }

    /// Waits until every late transaction waits for its gate or for the row of its user.
    async fn await_locks(&self) {
        const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let expected = i64::try_from(self.late.len()).expect("few");
        let gates = self.gates.as_ref().expect("Postgres");
        let waiting = async {
            while gates
                .query_one(WAITING, &[])
                .await
                .expect("a query")
                .get::<_, i64>(0)
                < expected
            {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(TIMEOUT, waiting)
            .await
            .expect("the transaction reaches its gate");
    }

    /// Ends a late transaction that waits for its gate.
    pub(super) async fn settle(&mut self, which: usize) {
        const AT_GATE: &str = "SELECT objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = $1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let Some(gates) = self.gates.as_ref().filter(|_| !self.late.is_empty()) else {
            return;
        };
        let ready = loop {
            let rows = gates.query(AT_GATE, &[]).await.expect("a query");
            let at_gate: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            let ready: Vec<usize> = (0..self.late.len())
                .filter(|late| at_gate.contains(&self.late[*late].gate))
                .collect();
            if !ready.is_empty() {
                break ready; // otherwise one is between the row of its user and its gate
            }
        };
        let mut late = self.late.remove(ready[which % ready.len()]);
        let crashed = if late.end == End::CrashLate {
            gates
                .query(TERMINATE, &[&late.gate])
                .await
                .expect("a statement");
            Some((&mut late.writing).await) // before the gate opens
        } else {
            None
        };
        gates
            .execute("SELECT pg_advisory_unlock($1)", &[&late.gate])
            .await
            .expect("a statement");
        self.numbers.late_commits += usize::from(late.end == End::CommitLate);
        self.numbers.writer_crashes += usize::from(late.end == End::CrashLate);
        let written = match crashed {
            Some(written) => written,
            None => (&mut late.writing).await,
        };
        self.finish(&late, &written.expect("no panic"));
        self.await_locks().await;
    }

    fn finish(&mut self, late: &Late, written: &Result<bool, db::Error>) {
        match (written, late.end) {
            (Ok(done), End::Commit | End::CommitLate) => assert!(done, "it was written"),
            (Err(_), End::RollBack | End::RollBackLate | End::CrashLate) => {
                self.numbers.rolled_back += 1;
            }
            (_, end) => panic!("{end:?} ended as {written:?}"),
        }
        if late.registers && written.is_ok() {
            self.users[late.user] = Some(late.user_id);
            self.created.push(late.user_id);
        } else if late.registers {
            self.rolled_back.push(late.user_id);
        }
    }
}

/// An act with a trace context of its own, by which the database recognises its event.
fn act() -> Act {
    let trace_id = EventId::new(START).to_string().replace('-', "");
    let traceparent = Traceparent::parse(&format!("00-{trace_id}-00f067aa0ba902b7-01"));
    assert!(traceparent.is_some());
    Act {
        now: START,
        traceparent,
        administrator: None,
    }
}

/// Inserts the row directly. The service would wait for an earlier transaction of the user.
async fn start_session(database: &TestDatabase, id: SessionId, user_id: UserId) {
    let id = database.id(&id.to_string());
    let user_id = database.id(&user_id.to_string());
    let (start, end) = (database.time(START), database.time(START + TIMEOUT));
    let token = database.bytes(b"");
    let handle = database.dialect("randomblob(16)", "uuid_send(gen_random_uuid())");
    let sql = format!(
        "INSERT INTO sessions (id, user_id, handle_hash, token_hash, generation, created_at, \
         rotated_at, expires_at, ends_at) \
         VALUES ({id}, {user_id}, {handle}, {token}, 1, {start}, {start}, {end}, {end})"
    );
    database.execute(&sql).await;
}

/// Runs a transaction of the service: a registration, or the end of a session.
async fn commit(
    db: Db,
    user_id: UserId,
    session: Option<SessionId>,
    act: Act,
) -> Result<bool, db::Error> {
    if let Some(session) = session {
        let end = SessionEnd {
            reason: SessionEndReason::Logout,
            access_token_ttl: Duration::ZERO,
        };
        let ended = db.end_session(user_id, session, end, &act);
        return Ok(ended.await?.is_some());
    }
    let email = Email::parse(&format!("{user_id}@example.com")).expect("an address");
    let user = NewUser {
        id: user_id,
        email: email.as_str(),
        locale: None,
        password_hash: &StoredHash::new("", user_id, Form::Old).expect("no randomness"),
        created_at: START,
    };
    let payload = Payload::UserCreated {
        email: email.clone(),
        created_at: START,
        imported: false,
    };
    let event = Event::new(user_id, payload, &act);
    let registration = db.register(&user, None, None, &event).await?;
    Ok(registration == Registration::Created)
}

/// SQL by which the test decides how a transaction ends: on Postgres at its commit, which waits
/// for a gate (an advisory lock); on SQLite at its last statement.
pub fn decide_commits(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => {
            "CREATE TABLE fates (traceparent TEXT PRIMARY KEY);
             CREATE TRIGGER decide AFTER INSERT ON outbox_events
             WHEN EXISTS (SELECT 1 FROM fates WHERE traceparent = NEW.traceparent)
             BEGIN SELECT RAISE(ABORT, 'rolled back'); END"
        }
        Backend::Postgres => {
            "CREATE TABLE fates (
                 traceparent text PRIMARY KEY, rolls_back boolean,
                 gate bigint GENERATED ALWAYS AS IDENTITY
             );
             CREATE FUNCTION decide() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE mine fates;
             BEGIN
                 SELECT * INTO mine FROM fates WHERE traceparent = NEW.traceparent;
                 PERFORM pg_advisory_xact_lock(mine.gate);
                 IF mine.rolls_back THEN RAISE EXCEPTION 'rolled back'; END IF;
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER decide AFTER INSERT ON outbox_events
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION decide()"
        }
    }
}
