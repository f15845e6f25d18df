//! Refreshes that arrive while others are in flight go to Postgres together, in one
//! statement: many rows cost the database hardly more than one, and it is the one part
//! that does not scale out. There is no timer. Whoever finds a free turn goes at once, by
//! the plain statement, so an idle service answers as fast as without this.
//!
//! The group's statement is only a short cut. It skips rows that somebody else has locked,
//! so it waits for nobody and cannot deadlock with the group of another replica. Whoever
//! it did not rotate for whatever reason (no current token, a locked row, the same token
//! twice, a statement that failed because of one row) is left unanswered, and goes alone:
//! the plain statement stays the judge.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, Binary},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, pooled_connection::deadpool::Pool};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Duration, Instant, timeout},
};

use tracing::warn;

use super::{Columns, Rotation, SessionRow};
use crate::{
    db::{Error, metrics::Metrics, sql_types::Moment, with_conn},
    model::{Session, Timestamp},
    telemetry::Causes,
};

/// How many statements may be in flight: with more the groups are too small to pay, with
/// one the database idles while a reply travels.
const TURNS: usize = 2;

/// How many go together: beyond that, a row costs hardly less.
const LARGEST: usize = 64;

/// How long a statement may keep its turn. One that waits for a row or on a dead connection
/// must not hold up the others.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who is in flight, and who waits to go together next.
#[derive(Clone)]
pub(in crate::db) struct Groups {
    pool: Pool<AsyncPgConnection>,
    timeout: Duration,
    metrics: Metrics,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    in_flight: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    rotation: Rotation,
    answer: oneshot::Sender<Session>,
}

/// How a rotation goes on.
pub(super) enum Entry {
    /// At once, alone, keeping the turn until it is done.
    Turn(Turn),
    /// With others. Without an answer it has to go alone.
    Together(oneshot::Receiver<Session>),
}

/// One of the statements in flight. When it ends, however it does, those who wait go.
pub(super) struct Turn(Groups);

impl Groups {
    pub(in crate::db) fn new(
        pool: Pool<AsyncPgConnection>,
        timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let queue = Arc::default();
        Self {
            pool,
            timeout,
            metrics,
            queue,
        }
    }

    pub(super) fn enter(&self, rotation: &Rotation) -> Entry {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.in_flight < TURNS {
            queue.in_flight += 1;
            return Entry::Turn(Turn(self.clone()));
        }
        let (answer, answered) = oneshot::channel();
        queue.waiting.push(Waiting {
            rotation: rotation.clone(),
            answer,
        });
        Entry::Together(answered)
    }

    /// The next to go together. None, and the turn is given back, if nobody waits.
    fn next(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Callers that went away.
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let first = queue.waiting.len().min(LARGEST);
        let group: Vec<_> = queue.waiting.drain(..first).collect();
        if group.is_empty() {
            queue.in_flight -= 1;
        }
        group
    }

    async fn rotate(self, mut group: Vec<Waiting>) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let (statement, pool) = (Together::new(&group), &self.pool);
        let sessions: Vec<SessionRow> =
            with_conn!(@ self, pool, deadline, conn => statement.load(conn).await?)?;
        for session in sessions.into_iter().map(Session::from) {
            // The new token tells apart who showed the same one.
            let won = |w: &Waiting| session.token_hash == w.rotation.new_token_hash;
            if let Some(at) = group.iter().position(won) {
                let _gone = group.swap_remove(at).answer.send(session);
            }
        }
        Ok(())
    }
}

impl Turn {
    /// Keeps the turn until `statement` is done, or for as long as may be.
    pub(super) async fn hold<T>(self, statement: impl Future<Output = T>) -> T {
        let mut statement = pin!(statement);
        if let Ok(done) = timeout(PATIENCE, &mut statement).await {
            return done;
        }
        drop(self);
        statement.await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let group = self.0.next();
        if group.is_empty() {
            return;
        }
        let turn = Self(self.0.clone());
        // Without a runtime the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            let statement = self.0.clone().rotate(group);
            runtime.spawn(async {
                if let Err(error) = turn.hold(statement).await {
                    warn!(error = %Causes(&error), "refreshes that went together go one by one");
                }
            });
        }
    }
}

/// The plain rotation for several tokens, each against its own row.
///
/// Locked one by one through the index, however large the table: `LATERAL` leaves the
/// planner no choice. The conditions are the update's own, so that of a row that changed
/// since the statement began the newest version is judged.
#[derive(QueryId)]
struct Together {
    handle_hashes: Vec<[u8; 32]>,
    token_hashes: Vec<[u8; 32]>,
    new_token_hashes: Vec<[u8; 32]>,
    sealed_successors: Vec<[u8; 32]>,
    now: Vec<Timestamp>,
    expires_at: Vec<Timestamp>,
    columns: Columns,
}

impl Together {
    fn new(group: &[Waiting]) -> Self {
        fn each<T>(group: &[Waiting], field: impl Fn(&Rotation) -> T) -> Vec<T> {
            group.iter().map(|w| field(&w.rotation)).collect()
        }
        Self {
            handle_hashes: each(group, |rotation| rotation.handle_hash),
            token_hashes: each(group, |rotation| rotation.token_hash),
            new_token_hashes: each(group, |rotation| rotation.new_token_hash),
            sealed_successors: each(group, |rotation| rotation.sealed_successor),
            now: each(group, |rotation| rotation.now),
            expires_at: each(group, |rotation| rotation.expires_at),
            columns: SessionRow::columns(),
        }
    }
}

impl QueryFragment<Pg> for Together {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "UPDATE sessions SET previous_token_hash = sessions.token_hash, \
             token_hash = given.new_token_hash, sealed_successor = given.sealed_successor, \
             generation = sessions.generation + 1, rotated_at = given.now, \
             expires_at = given.expires_at FROM unnest(",
        );
        out.push_bind_param::<Array<Binary>, _>(&self.handle_hashes)?;
        for hashes in [
            &self.token_hashes,
            &self.new_token_hashes,
            &self.sealed_successors,
        ] {
            out.push_sql(", ");
            out.push_bind_param::<Array<Binary>, _>(hashes)?;
        }
        for times in [&self.now, &self.expires_at] {
            out.push_sql(", ");
            out.push_bind_param::<Array<Moment>, _>(times)?;
        }
        out.push_sql(
            ") AS given (handle_hash, token_hash, new_token_hash, sealed_successor, now, expires_at), \
             LATERAL (SELECT id FROM sessions WHERE handle_hash = given.handle_hash \
             FOR NO KEY UPDATE SKIP LOCKED) AS free \
             WHERE sessions.id = free.id AND sessions.token_hash = given.token_hash \
             AND sessions.revoked_at IS NULL AND sessions.expires_at > given.now \
             AND sessions.ends_at > given.now RETURNING ",
        );
        self.columns.walk_ast(out)
    }
}

impl Query for Together {
    type SqlType = diesel::dsl::SqlTypeOf<Columns>;
}
