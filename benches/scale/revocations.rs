//! Reading and deleting revocations: half as many as users, of which half have expired.

use std::time::{Duration, Instant};

use auth_service::{
    app::SystemClock,
    model::{Clock as _, Revocation, Timestamp},
};

use super::{Tables, name};
use crate::{
    Result,
    stats::{median, rate},
    table::Table,
};

const ROUNDS: usize = 4;
/// Statements of a round that delete.
const DELETIONS: usize = 5;
/// Reads of a round that find nothing new.
const READS: usize = 200;
/// How far back a replica looks for news.
const BACK: Duration = Duration::from_secs(5);

pub async fn measure(table: &mut Table, both: &[Tables; 2]) -> Result<()> {
    let mut all = [const { Vec::new() }; 2];
    let mut news = [const { Vec::new() }; 2];
    let mut deleted = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (n, tables) in both.iter().enumerate() {
            all[n].push(read_all(tables).await?);
            news[n].push(read_news(tables).await?);
            deleted[n].push(delete(tables).await?);
        }
    }
    for (figure, rates) in [("read/s at a start", all), ("deleted/s", deleted)] {
        let [many, few] = rates.map(|rates| median(&rates));
        let (figure, what) = name(&format!("revocations {figure}"));
        table.rates(&figure, many, what, few, ">= 0.8x");
    }
    let [many, few] = news.map(|times| median(&times));
    let (figure, what) = name("a read of revocations that finds nothing new");
    table.times(&figure, many, what, few, "<= 1.25x");
    Ok(())
}

/// As a replica does when it starts.
async fn read_all(tables: &Tables) -> Result<f64> {
    let expired = SystemClock.now() - Revocation::CLOCK_SKEW;
    let (mut from, mut rows) = (Timestamp::from_micros(0), 0);
    let begun = Instant::now();
    loop {
        let (read, next) = tables.db.revocations_from(from, expired).await?;
        rows += read.len();
        let Some(next) = next else { break };
        from = next;
    }
    Ok(rate(rows, begun.elapsed()))
}

async fn read_news(tables: &Tables) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..READS {
        let now = SystemClock.now();
        let begun = Instant::now();
        let (news, _) = (tables.db)
            .revocations_from(now - BACK, now - Revocation::CLOCK_SKEW)
            .await?;
        times.push(begun.elapsed());
        if !news.is_empty() {
            return Err("nobody revoked anything".into());
        }
    }
    Ok(median(&times))
}

async fn delete(tables: &Tables) -> Result<f64> {
    let expired = SystemClock.now() - Revocation::CLOCK_SKEW;
    let (mut deleted, begun) = (0, Instant::now());
    for _ in 0..DELETIONS {
        deleted += tables.db.delete_revocations(expired).await?;
    }
    Ok(rate(deleted, begun.elapsed()))
}
