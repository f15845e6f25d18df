//! Accounts, writers, pollers and the database of the model.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, task::Poll, time::Duration};

use auth_service::{
    db::{self, Db, NewUser, Registration},
    model::{
        Act, Email, Event, EventId, Payload, SessionEnd, SessionEndReason, SessionId, Traceparent,
        UserId,
    },
    outbox::{Error, Metrics, Outcome, Poller, publisher::Publisher},
};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;

use super::{
    End, POLLERS, Step, USERS,
    broker::{Broker, Call, Line},
};
use crate::harness::{Backend, ManualClock, START, TestDatabase, build, config};

/// Longer than any writer is kept waiting.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Everything but the script.
pub struct World {
    pub database: TestDatabase,
    pub broker: Broker,
    db: Db,
    users: [Option<UserId>; USERS],
    /// Transactions that are about to end.
    late: Vec<Late>,
    pollers: Vec<Replica>,
    /// Holds the gates that late transactions wait at.
    gates: Option<tokio_postgres::Client>,
    /// What writers were told: users that must, and that must not be there.
    created: Vec<UserId>,
    rolled_back: Vec<UserId>,
    numbers: Numbers,
}

/// How much happened, so that nobody believes in a test of nothing.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    cases: usize,
    records: usize,
    duplicates: usize,
    rolled_back: usize,
    late_commits: usize,
    writer_crashes: usize,
    poller_crashes: usize,
    overtaken: usize,
    arrived_late: usize,
    parked: usize,
}

struct Late {
    user: usize,
    user_id: UserId,
    gate: i64,
    end: End,
    writing: JoinHandle<Result<bool, db::Error>>,
    registers: bool,
}

type Tick = Pin<Box<dyn Future<Output = (Box<Poller>, Result<Outcome, Error>)> + Send>>;

struct Replica {
    calls: mpsc::UnboundedReceiver<Call>,
    state: State,
}

enum State {
    Idle(Box<Poller>),
    /// In the middle of a tick, waiting for the broker.
    Calling(Tick, Box<Call>),
    /// On its way from one to the other.
    Moving,
}

fn open(database: &TestDatabase) -> Db {
    Db::new(
        &config(database, &[]).database,
        TIMEOUT,
        &mut Registry::default(),
    )
}

impl Replica {
    /// A process of its own: its connections end with it.
    fn start(database: &TestDatabase) -> Self {
        let (line, calls) = Line::new();
        let poller = Poller::new(
            open(database),
            Arc::new(line) as Arc<dyn Publisher>,
            Arc::new(ManualClock::new(START)),
            Arc::new(Notify::new()),
            Metrics::register(&mut Registry::default()),
        );
        Self {
            calls,
            state: State::Idle(Box::new(poller)),
        }
    }
}

impl World {
    pub async fn new(database: TestDatabase) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        drop(build(&database, clock, &[]).await.expect("migrated"));
        database.execute(fates(database.backend())).await;
        let gates = match database.backend() {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let connected = tokio_postgres::connect(&database.url(), NoTls).await;
                let (client, connection) = connected.expect("Postgres answers");
                tokio::spawn(connection);
                Some(client)
            }
        };
        Self {
            broker: Broker::default(),
            db: open(&database),
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
            Step::LoseLease => self.lose_lease().await,
            Step::Arrive(which) => {
                self.numbers.arrived_late += usize::from(self.broker.arrive(which));
            }
            Step::Requeue => self.requeue().await,
        }
    }

    /// All faults end: transactions, calls, late arrivals. Then one poller has its way.
    pub async fn calm_down(&mut self) {
        for _ in 0..self.late.len() {
            self.settle(0).await;
        }
        assert!(self.late.is_empty(), "a transaction does not end");
        for poller in 0..POLLERS {
            self.answer(poller).await;
        }
        loop {
            self.lose_lease().await;
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
        let left = self
            .database
            .count("SELECT count(*) FROM outbox_events")
            .await;
        assert_eq!(left, 0, "a poller that has its way leaves nothing");
    }

    /// What writers were told is what became of it.
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

    // --- writers

    /// Registers the user, or ends a session of one who is there.
    async fn write(&mut self, user: usize, end: End) {
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
        // It would wait for an earlier transaction of its user anyway.
        let behind = self.late.iter().any(|late| late.user == user);
        let end = match end {
            End::Commit if behind => End::CommitLate,
            End::RollBack if behind => End::RollBackLate,
            end => end,
        };
        let is_late = self.gates.is_some() && !matches!(end, End::Commit | End::RollBack);
        let rolls_back = match end {
            End::RollBack | End::RollBackLate => true,
            End::CrashLate => !is_late, // SQLite's crashes are rolled back too
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

    /// Tells the database how the transaction of this act ends.
    async fn decide(&self, act: &Act, rolls_back: bool, is_late: bool) -> i64 {
        let traceparent = act.traceparent.as_ref().expect("every act has one");
        let Some(gates) = &self.gates else {
            if rolls_back {
                let sql = format!("INSERT INTO fates VALUES ('{traceparent}')");
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
            locked.expect("nobody else has it");
        }
        gate
    }

    /// Waits until every late transaction waits: at its gate, or for its user's row.
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

    /// Lets a transaction that is at its gate end.
    async fn settle(&mut self, which: usize) {
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
                break ready; // else one is on its way from its user's row to its gate
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

    // --- pollers

    async fn tick(&mut self, poller: usize) {
        let Replica { calls, state } = &mut self.pollers[poller];
        *state = match std::mem::replace(state, State::Moving) {
            State::Idle(mut poller) => {
                let mut tick: Tick = Box::pin(async move {
                    let outcome = poller.tick().await;
                    (poller, outcome)
                });
                tokio::select! {
                    call = calls.recv() => State::Calling(tick, Box::new(call.expect("the line is open"))),
                    (poller, outcome) = &mut tick => {
                        let quiet = matches!(outcome, Ok(Outcome::Idle | Outcome::Standby));
                        assert!(quiet, "{outcome:?}");
                        State::Idle(poller)
                    }
                }
            }
            other => other,
        };
        let two = self.calling(0) != self.calling(1);
        self.numbers.overtaken += usize::from(two);
    }

    /// One of the pollers that are in the middle of a call.
    fn calling(&self, which: usize) -> Option<usize> {
        let calling: Vec<usize> = (0..POLLERS)
            .filter(|poller| matches!(self.pollers[*poller].state, State::Calling(..)))
            .collect();
        Some(calling[which.checked_rem(calling.len())?])
    }

    async fn answer(&mut self, poller: usize) {
        let state = &mut self.pollers[poller].state;
        *state = match std::mem::replace(state, State::Moving) {
            State::Calling(tick, call) => {
                call.answer();
                let (poller, outcome) = tick.await;
                let called = matches!(outcome, Ok(Outcome::Progress) | Err(Error::Publish(_)));
                assert!(called, "{outcome:?}");
                State::Idle(poller)
            }
            other => other,
        };
    }

    /// The process dies after its tick was driven on for so many steps.
    async fn crash(&mut self, poller: usize, mut steps: usize) {
        let fresh = Replica::start(&self.database);
        let dying = std::mem::replace(&mut self.pollers[poller], fresh);
        if let State::Calling(mut tick, call) = dying.state {
            self.numbers.poller_crashes += 1;
            if steps > 0 {
                call.answer();
            }
            std::future::poll_fn(|context| {
                if steps == 0 {
                    return Poll::Ready(());
                }
                steps -= 1;
                tick.as_mut().poll(context).map(|_| ())
            })
            .await;
        }
    }

    async fn lose_lease(&self) {
        let past = self.database.dialect("1", "now() - interval '1 second'");
        let sql = format!("UPDATE outbox_lease SET expires_at = {past}");
        self.database.execute(&sql).await;
    }

    async fn requeue(&mut self) {
        for parked in self.db.parked_events().await.expect("a query") {
            self.numbers.parked += 1;
            self.db
                .requeue_event(parked.event_id)
                .await
                .expect("a statement");
        }
    }
}

impl Numbers {
    pub fn add(&mut self, world: &World, records: usize, duplicates: usize) {
        let other = &world.numbers;
        self.cases += 1;
        self.records += records;
        self.duplicates += duplicates;
        self.rolled_back += other.rolled_back;
        self.late_commits += other.late_commits;
        self.writer_crashes += other.writer_crashes;
        self.poller_crashes += other.poller_crashes;
        self.overtaken += other.overtaken;
        self.arrived_late += other.arrived_late;
        self.parked += other.parked;
    }

    pub fn assert_that_much_happened(&self, backend: Backend) {
        let Self {
            cases,
            late_commits,
            writer_crashes,
            ..
        } = *self;
        let everywhere = [
            self.duplicates,
            self.rolled_back,
            self.poller_crashes,
            self.overtaken,
            self.arrived_late,
            self.parked,
        ];
        assert!(cases == 0 || !everywhere.contains(&0), "{self:?}");
        if backend == Backend::Postgres {
            assert!(
                cases == 0 || (late_commits > 0 && writer_crashes > 0),
                "{self:?}"
            );
        }
    }
}

/// An act whose trace context tells it apart from all others.
fn act() -> Act {
    let trace_id = EventId::new(START).to_string().replace('-', "");
    let traceparent = Traceparent::parse(&format!("00-{trace_id}-00f067aa0ba902b7-01"));
    assert!(traceparent.is_some());
    Act {
        now: START,
        traceparent,
    }
}

/// Not by the product, which would wait for an earlier transaction of the user.
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

/// The product's own transactions: a registration, or the end of a session.
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
        password_hash: "",
        created_at: START,
    };
    let payload = Payload::UserCreated {
        email: email.clone(),
    };
    let event = Event::new(user_id, payload, &act);
    let registration = db.register(&user, None, &event).await?;
    Ok(registration == Registration::Created)
}

/// Lets a test decide how a transaction ends: on Postgres at its commit, which waits at a
/// gate; on SQLite at its last statement.
fn fates(backend: Backend) -> &'static str {
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
