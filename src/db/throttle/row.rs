//! The rows of the counters, and the statements that read and replace them.
//!
//! A crash of Postgres forgets what these statements wrote in less than a second before it (see
//! `synchronous_commit` in its documentation), and a switch to a standby what that had not received.
//! That is harmless. Forgotten failures are free guesses, for somebody who cannot make the database
//! crash, and a forgotten success is one failure that fades as others do. In return a login waits
//! for one flush of the log instead of three. Everything else that the service writes is flushed.

use diesel::{
    backend::Backend,
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, Binary},
    sqlite::Sqlite,
};
use diesel_async::RunQueryDsl;

use super::{Key, Raised};
use crate::{
    db::{schema::login_throttle, steps::steps},
    model::{Counter, Timestamp},
};

/// The low bits of a revision are its sequence number. The number is written out in the SQL below.
const SEQUENCE_BITS: u32 = 47;
const SEQUENCE: i64 = (1 << SEQUENCE_BITS) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    /// Changes with the row: a sequence number, and above it random bits that tell writers of the
    /// same number apart.
    pub(super) revision: i64,
    pub(super) counter: Counter,
}

impl Row {
    /// Random, so that a row that was deleted and made again is not taken for the old one.
    pub(super) fn first_revision() -> i64 {
        // Half of all sequence numbers are above it.
        Self::revision(random() & (SEQUENCE >> 1))
    }

    pub(super) fn next_revision(&self) -> i64 {
        Self::revision(self.revision.wrapping_add(1))
    }

    /// A revision with the sequence number of this one.
    fn revision(of: i64) -> i64 {
        (random() & !SEQUENCE) | (of & SEQUENCE)
    }
}

/// Not negative.
fn random() -> i64 {
    let random = getrandom::u64().expect("the operating system has randomness");
    i64::try_from(random >> 1).expect("63 bits")
}

steps! {
    trait Rows;

    async fn find_rows(&mut self, keys: &[Key]) -> QueryResult<Vec<Row>> {
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        let rows: Vec<(Vec<u8>, i64, i64, i64, i64, i64)> = login_throttle::table
            .filter(login_throttle::key_hash.eq_any(&keys))
            .select((
                login_throttle::key_hash,
                login_throttle::revision,
                login_throttle::free_from,
                login_throttle::failed_at,
                login_throttle::day_failures,
                login_throttle::day_ends_at,
            ))
            .load(self)
            .await?;
        let row = |(key, revision, free_from, failed_at, day_failures, day_ends_at)| {
            let [free_from, failed_at, window_ends_at] =
                [free_from, failed_at, day_ends_at].map(Timestamp::from_micros);
            let key: Vec<u8> = key;
            Some(Row {
                key: key.try_into().ok()?,
                revision,
                counter: Counter {
                    free_from,
                    failed_at,
                    window_failures: day_failures,
                    window_ends_at,
                },
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Inserts rows. A row whose key exists is left alone, or replaced if its sequence number is the
    /// one before, as `known` says. Returns the keys of the rows that were written.
    async fn write_rows(&mut self, rows: Vec<Row>, known: Known) -> QueryResult<Vec<Key>> {
        let mut rows = rows;
        rows.sort_unstable_by_key(|row| row.key);
        let statement = Write { rows: rows.iter().map(Values::of).collect(), known };
        let written: Vec<Vec<u8>> = (&statement).load(self).await?;
        let keys = written.into_iter().filter_map(|key| key.try_into().ok());
        Ok(keys.collect())
    }

    /// Takes counts back, by replacing the rows. A single row of which nothing is left is deleted,
    /// but not if others have `written` it since: one of them may still take its count back, and
    /// would insert the row again.
    async fn lower_rows(
        &mut self,
        raised: &[Raised],
        written: bool,
        now: Timestamp,
    ) -> QueryResult<Vec<Key>> {
        let lowered: Vec<_> = raised.iter().map(|raised| raised.lowered(now)).collect();
        match (raised, &lowered[..]) {
            ([Raised { row, .. }], [left]) if !written && left.counter.is_new(now) => {
                let statement = Delete { key: row.key, revision: row.revision };
                let deleted: Vec<Vec<u8>> = (&statement).load(self).await?;
                Ok(vec![row.key; deleted.len()])
            }
            _ => self.write_rows(lowered, Known::Replace).await,
        }
    }
}

/// The end of a statement: it returns the key of each row that it wrote. On Postgres it also sets,
/// for its transaction alone, that the commit does not wait for the log.
trait Written {
    const KEY: &'static str;
}

impl Written for Pg {
    const KEY: &'static str = " RETURNING CASE \
        WHEN set_config('synchronous_commit', 'off', true) IS NOT NULL THEN key_hash END";
}

impl Written for Sqlite {
    const KEY: &'static str = " RETURNING key_hash";
}

/// The fate of a row that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Replace,
    /// Nothing is written then, not even a lock, which would be in the log too.
    Leave,
}

/// The statement as SQL: Diesel does not keep an upsert of its own prepared.
struct Write {
    rows: Vec<Values>,
    known: Known,
}

struct Values {
    key: Key,
    numbers: [i64; 5],
}

impl Values {
    fn of(row: &Row) -> Self {
        let counter = &row.counter;
        Self {
            key: row.key,
            numbers: [
                row.revision,
                counter.free_from.as_micros(),
                counter.failed_at.as_micros(),
                counter.window_failures,
                counter.window_ends_at.as_micros(),
            ],
        }
    }
}

impl<DB> QueryFragment<DB> for Write
where
    DB: Backend + Written,
    i64: ToSql<BigInt, DB>,
    [u8; 32]: ToSql<Binary, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO login_throttle (key_hash, revision, free_from, failed_at, day_failures, \
             day_ends_at, blocked_until, known_until) VALUES ",
        );
        for (n, row) in self.rows.iter().enumerate() {
            out.push_sql(if n == 0 { "(" } else { ", (" });
            out.push_bind_param::<Binary, _>(&row.key)?;
            for number in &row.numbers {
                out.push_sql(", ");
                out.push_bind_param::<BigInt, _>(number)?;
            }
            out.push_sql(", 0, 0)");
        }
        out.push_sql(match self.known {
            Known::Leave => " ON CONFLICT (key_hash) DO NOTHING",
            Known::Replace => {
                " ON CONFLICT (key_hash) DO UPDATE SET revision = excluded.revision, \
                 free_from = excluded.free_from, failed_at = excluded.failed_at, \
                 day_failures = excluded.day_failures, day_ends_at = excluded.day_ends_at \
                 WHERE (login_throttle.revision & 140737488355327) \
                 = (excluded.revision & 140737488355327) - 1"
            }
        });
        out.push_sql(DB::KEY);
        Ok(())
    }
}

/// No static id: the statement is kept prepared by its text.
impl QueryId for Write {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Write {
    type SqlType = Binary;
}

/// Deletes a row that is as it was read.
#[derive(QueryId)]
struct Delete {
    key: Key,
    revision: i64,
}

impl<DB> QueryFragment<DB> for Delete
where
    DB: Backend + Written,
    i64: ToSql<BigInt, DB>,
    [u8; 32]: ToSql<Binary, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("DELETE FROM login_throttle WHERE key_hash = ");
        out.push_bind_param::<Binary, _>(&self.key)?;
        out.push_sql(" AND revision = ");
        out.push_bind_param::<BigInt, _>(&self.revision)?;
        out.push_sql(DB::KEY);
        Ok(())
    }
}

impl Query for Delete {
    type SqlType = Binary;
}
