//! Counters of failed attempts, shared by all replicas. [`model`](crate::model) has their rules;
//! here rows are read and replaced.
//!
//! A row is replaced only if it still has the sequence number that was read. Of two attempts at
//! once one reads the row again, after a short random pause. An attempt whose answer was lost knows
//! the row that it wrote by random bits: another one may have written the same numbers. SQLite has
//! one connection, so attempts do not even meet there. Each statement locks its rows in the order
//! of their keys, and only while it runs. (Housekeeping deletes in any order; a deadlock with it is
//! run again.) A refused attempt writes nothing.
//!
//! Postgres does not flush these writes to its disk, nor send them to a synchronous standby,
//! before it answers: see [`row`].

mod clear;
mod row;

pub(super) use self::clear::Clear;
use self::row::{Known, Row, Rows as _};

use super::{Db, Error, retry::LostRaces, with_conn};
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
        let counting = self.count_attempt(counts, &mut counted, now);
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
    async fn count_attempt(
        &self,
        counts: &[Count],
        counted: &mut Counted,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, (Error, Vec<Raised>)> {
        let mut races = LostRaces::new(self.timeout);
        let mut open = counts.to_vec();
        let mut raised = Vec::new();
        // A known device and a session have one counter, and normally no failures: a single row is
        // inserted without a look. Of several counters, one may hold the attempt back.
        let mut reads = counts.len() > 1;
        while !open.is_empty() {
            let keys: Vec<_> = open.iter().map(|count| count.key).collect();
            let written = with_conn!(self, races.deadline, conn => {
                raised.clear();
                let (found, known) = if reads {
                    (conn.find_rows(&keys).await?, Known::Replace)
                } else {
                    (Vec::new(), Known::Leave)
                };
                match raise_all(&open, &found, now) {
                    Ok(all) => {
                        raised = all;
                        let rows = raised.iter().map(|raised| raised.row).collect();
                        Ok(conn.write_rows(rows, known).await?)
                    }
                    Err(until) => Err(until),
                }
            });
            let written = match written {
                Ok(Ok(written)) => written,
                Ok(Err(until)) => return Ok(Some(until)),
                Err(error) => return Err((error, raised)),
            };
            open.retain(|count| !written.contains(&count.key));
            let is_written = |raised: &Raised| written.contains(&raised.row.key);
            counted.0.extend(raised.drain(..).filter(is_written));
            if !open.is_empty() && reads {
                let pause = races.wait_after_one().await;
                pause.map_err(|error| (error, Vec::new()))?;
            }
            reads = true;
        }
        Ok(None)
    }

    /// The counters that were raised although the statement seemed to fail.
    async fn written(&self, mut unsure: Vec<Raised>) -> Result<Vec<Raised>, Error> {
        let keys: Vec<_> = unsure.iter().map(|raised| raised.row.key).collect();
        if !keys.is_empty() {
            let found = with_conn!(self, conn => { conn.find_rows(&keys).await? })?;
            unsure.retain(|raised| found.contains(&raised.row));
        }
        Ok(unsure)
    }

    /// Takes back an attempt that was no failure. If a row is still as the attempt left it, it
    /// becomes what it was before.
    pub async fn take_back(&self, counted: Counted, now: Timestamp) -> Result<(), Error> {
        let mut races = LostRaces::new(self.timeout);
        let mut left = counted.0;
        let mut has_lost = false;
        while !left.is_empty() {
            left = with_conn!(self, races.deadline, conn => {
                let mut raised = left.clone();
                if has_lost {
                    let keys: Vec<_> = raised.iter().map(|raised| raised.row.key).collect();
                    read_again(&mut raised, &conn.find_rows(&keys).await?);
                }
                let written = conn.lower_rows(&raised, has_lost, now).await?;
                raised.retain(|raised| !written.contains(&raised.row.key));
                raised
            })?;
            if !left.is_empty() {
                has_lost = true;
                races.wait_after_one().await?;
            }
        }
        Ok(())
    }
}

impl Raised {
    fn lowered(&self, now: Timestamp) -> Row {
        Row {
            counter: self.row.counter.take_back(&self.raise, now),
            revision: self.row.next_revision(),
            ..self.row
        }
    }
}

/// Leaves out deleted rows: they have no failures to take back.
fn read_again(raised: &mut Vec<Raised>, found: &[Row]) {
    raised.retain_mut(|raised| {
        let row = found.iter().find(|row| row.key == raised.row.key);
        raised.row = *row.unwrap_or(&raised.row);
        row.is_some()
    });
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_writers_of_the_same_count_hardly_ever_write_the_same_row() {
        let limits = CounterLimits {
            free: 1,
            window: None,
            first_wait: Duration::ZERO,
            longest_wait: Duration::ZERO,
            fade: Duration::ZERO,
        };
        let counts = [Count {
            key: [1; 32],
            limits,
        }];
        let now = Timestamp::from_micros(1);
        let raise = |found: &[Row]| raise_all(&counts, found, now).map(|raised| raised[0].row);
        let first = raise(&[]).unwrap();
        let seconds: Vec<_> = (0..8).map(|_| raise(&[first]).unwrap()).collect();
        let counters = |row: &Row| row.counter;
        assert!(
            seconds
                .iter()
                .map(counters)
                .all(|it| it == seconds[0].counter)
        );
        assert!(
            seconds
                .iter()
                .any(|row| row.revision != seconds[0].revision)
        );
    }
}
