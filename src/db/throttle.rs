//! Counters of failed attempts, shared by all replicas. [`model`](crate::model) has their rules;
//! here rows are read and replaced.
//!
//! A row is replaced only if it still has the revision that was read, so of two attempts at once
//! one reads the row again, after a short random pause. Each statement locks its rows in the
//! order of their keys, and only while it runs. (Housekeeping deletes in any order; a deadlock
//! with it is run again.) A refused attempt writes nothing.

mod row;

use tokio::time::Instant;

use self::row::Row;
use super::{Db, Error, retry::LostRaces};
use crate::model::{Counter, CounterLimits, Raise, Timestamp};

/// The key of a counter: a keyed hash.
pub type Key = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub key: Key,
    pub limits: CounterLimits,
}

pub enum Admission {
    /// The attempt counts as a failure until it is taken back.
    Counted(Counted),
    /// At least one of the counters holds attempts back until then.
    HeldBack { until: Timestamp },
}

/// The counters that an attempt has raised.
#[derive(Debug, Default)]
pub struct Counted(Vec<Raised>);

#[derive(Clone, Copy, Debug)]
struct Raised {
    raise: Raise,
    /// The row as the attempt left it.
    row: Row,
}

impl Counted {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Db {
    /// Counts an attempt with all these counters, or with none of them if one holds it back.
    pub async fn count(&self, counts: &[Count], now: Timestamp) -> Result<Admission, Error> {
        let mut counted = Counted::default();
        let counting = self.count_each(counts, &mut counted, now);
        let until = match counting.await {
            Ok(None) => return Ok(Admission::Counted(counted)),
            Ok(Some(until)) => until,
            Err((error, unsure)) => {
                // The error that is returned is the one that matters.
                counted
                    .0
                    .extend(self.written(unsure).await.unwrap_or_default());
                self.take_back(counted, now).await.ok();
                return Err(error);
            }
        };
        self.take_back(counted, now).await?;
        Ok(Admission::HeldBack { until })
    }

    /// Returns the end of the wait if a counter holds the attempt back. `counted` gets the
    /// counters that were raised until then. With an error come those that may be raised too.
    async fn count_each(
        &self,
        counts: &[Count],
        counted: &mut Counted,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, (Error, Vec<Raised>)> {
        let mut races = LostRaces::new(Instant::now() + self.timeout);
        let mut open = counts.to_vec();
        let sure = |error| (error, Vec::new());
        while !open.is_empty() {
            let keys: Vec<_> = open.iter().map(|count| count.key).collect();
            let found = self.find_rows(&keys).await.map_err(sure)?;
            let raised = match raise_all(&open, &found, now) {
                Ok(raised) => raised,
                Err(until) => return Ok(Some(until)),
            };
            let rows = raised.iter().map(|raised| raised.row).collect();
            let written = match self.replace_rows(rows).await {
                Ok(written) => written,
                Err(error) => return Err((error, raised)),
            };
            open.retain(|count| !written.contains(&count.key));
            let is_written = |raised: &Raised| written.contains(&raised.row.key);
            counted.0.extend(raised.into_iter().filter(is_written));
            if !open.is_empty() {
                races.wait_after_one().await.map_err(sure)?;
            }
        }
        Ok(None)
    }

    /// The counters that were raised although the statement seemed to fail.
    async fn written(&self, unsure: Vec<Raised>) -> Result<Vec<Raised>, Error> {
        if unsure.is_empty() {
            return Ok(unsure);
        }
        let keys: Vec<_> = unsure.iter().map(|raised| raised.row.key).collect();
        let found = self.find_rows(&keys).await?;
        let is_there = |raised: &Raised| found.contains(&raised.row);
        Ok(unsure.into_iter().filter(is_there).collect())
    }

    /// Takes back an attempt that was no failure. If a row is still as the attempt left it, it
    /// becomes what it was before.
    pub async fn take_back(&self, counted: Counted, now: Timestamp) -> Result<(), Error> {
        let mut races = LostRaces::new(Instant::now() + self.timeout);
        let mut raised = counted.0;
        while !raised.is_empty() {
            let lowered = raised.iter().map(|Raised { raise, row }| Row {
                counter: row.counter.take_back(raise, now),
                revision: row.next_revision(),
                ..*row
            });
            let written = self.lower_rows(lowered.collect(), now).await?;
            raised.retain(|raised| !written.contains(&raised.row.key));
            if raised.is_empty() {
                break;
            }
            races.wait_after_one().await?;
            let keys: Vec<_> = raised.iter().map(|raised| raised.row.key).collect();
            let found = self.find_rows(&keys).await?;
            raised.retain_mut(|raised| {
                let row = found.iter().find(|row| row.key == raised.row.key);
                raised.row = *row.unwrap_or(&raised.row);
                // A deleted counter has no failures to take back.
                row.is_some()
            });
        }
        Ok(())
    }

    /// Like `replace_rows`. A single row of which nothing is left is deleted.
    async fn lower_rows(&self, rows: Vec<Row>, now: Timestamp) -> Result<Vec<Key>, Error> {
        match rows[..] {
            [row] if row.counter.is_new(now) => self.delete_row(row).await,
            _ => self.replace_rows(rows).await,
        }
    }
}

/// The rows with one more failure, or the time until which one of them holds attempts back.
fn raise_all(counts: &[Count], found: &[Row], now: Timestamp) -> Result<Vec<Raised>, Timestamp> {
    let raised = counts.iter().map(|count| {
        let row = found.iter().find(|row| row.key == count.key);
        let counter = row.map_or(Counter::NEW, |row| row.counter);
        let raise = counter.count(&count.limits, now)?;
        let revision = row.map_or_else(Row::first_revision, Row::next_revision);
        let row = Row {
            key: count.key,
            revision,
            counter: raise.after,
        };
        Ok(Raised { raise, row })
    });
    let (raised, held): (Vec<_>, Vec<_>) = raised.partition(Result::is_ok);
    match held.into_iter().filter_map(Result::err).max() {
        Some(until) => Err(until),
        None => Ok(raised.into_iter().flatten().collect()),
    }
}
