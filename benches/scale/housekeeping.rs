//! Steps of housekeeping along a table, without the pauses between them: first where one of ten
//! rows is deleted, then again where none is. Each round takes another part of the table.

use std::time::Instant;

use auth_service::{
    app::SystemClock,
    db::{self, Step},
    model::{Clock as _, MailRequestId, SessionId, ThrottleLimits},
};

use super::{Tables, name};
use crate::{
    Result,
    stats::{median, rate},
    table::Table,
    world::config,
};

const ROUNDS: u8 = 4;
/// The rows that a step reads.
const STEP: usize = 500;
/// The most steps of a round.
const STEPS: usize = 40;

/// Rows per second.
struct Rates {
    deleted: f64,
    /// That were read where none was deleted.
    kept: f64,
}

pub async fn measure(table: &mut Table, both: &[Tables; 2]) -> Result<()> {
    let limits = config(&both[0].database.url, &[])?.auth.throttle;
    let mut measured = [const { [Vec::new(), Vec::new()] }; 3];
    for round in 0..ROUNDS {
        for (n, tables) in both.iter().enumerate() {
            measured[0][n].push(sessions(tables, round).await?);
            measured[1][n].push(counters(tables, round, &limits).await?);
            measured[2][n].push(mails(tables, round).await?);
        }
    }
    let rows = ["ended sessions", "guess counters", "mail requests"];
    for (rows, [many, few]) in rows.iter().zip(&measured) {
        let of = |rounds: &[Rates], which: fn(&Rates) -> f64| {
            median(&rounds.iter().map(which).collect::<Vec<_>>())
        };
        let (figure, what) = name(&format!("housekeeping: {rows} deleted/s, one of ten"));
        let deleted = |rates: &Rates| rates.deleted;
        let (measured, baseline) = (of(many, deleted), of(few, deleted));
        table.rates(&figure, measured, what, baseline, ">= 0.8x");
        let (figure, what) = name(&format!("housekeeping: {rows} read/s, none to delete"));
        let kept = |rates: &Rates| rates.kept;
        table.rates(&figure, of(many, kept), what, of(few, kept), ">= 0.8x");
    }
    Ok(())
}

async fn sessions(tables: &Tables, round: u8) -> Result<Rates> {
    let now = SystemClock.now();
    let first = SessionId::from_bytes(Tables::id_before(part(tables.sessions(), round)));
    let step = |after| tables.db.delete_ended_sessions(after, now);
    twice(tables.sessions(), first, step).await
}

async fn counters(tables: &Tables, round: u8, limits: &ThrottleLimits) -> Result<Rates> {
    let now = SystemClock.now();
    // The keys are hashes.
    let first = vec![round * (u8::MAX / ROUNDS)];
    let step = |after| (tables.db).delete_forgotten_counters(after, limits.forgotten(now));
    twice(tables.others(), first, step).await
}

async fn mails(tables: &Tables, round: u8) -> Result<Rates> {
    let now = SystemClock.now();
    let first = MailRequestId::from_bytes(Tables::id_before(part(tables.others(), round)));
    let step = |after| tables.db.delete_expired_mails(after, now);
    twice(tables.others(), first, step).await
}

/// The first row of a round's part of a table.
fn part(rows: i64, round: u8) -> i64 {
    rows / i64::from(ROUNDS) * i64::from(round)
}

/// Takes the steps of a round twice. Some rows of its part are left, so that they end within it.
async fn twice<P: Clone, F>(rows: i64, first: P, step: impl Fn(Option<P>) -> F) -> Result<Rates>
where
    F: Future<Output = std::result::Result<Step<P>, db::Error>>,
{
    let part = usize::try_from(rows)? / usize::from(ROUNDS);
    let steps = STEPS.min(part / STEP * 4 / 5);
    let mut after = Some(first.clone());
    let (mut deleted, begun) = (0, Instant::now());
    for _ in 0..steps {
        let done = step(after).await?;
        deleted += done.deleted;
        after = done.next;
    }
    let deleting = begun.elapsed();
    // There are fewer rows now.
    let steps = steps * 4 / 5;
    let mut after = Some(first);
    let begun = Instant::now();
    for _ in 0..steps {
        let done = step(after).await?;
        if done.deleted > 0 || done.next.is_none() {
            return Err("housekeeping left its part of the table".into());
        }
        after = done.next;
    }
    Ok(Rates {
        deleted: rate(deleted, deleting),
        kept: rate(steps * STEP, begun.elapsed()),
    })
}
