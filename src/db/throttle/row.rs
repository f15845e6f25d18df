//! The rows of the counters, and the statements that read and replace them.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, Binary},
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

    /// Inserts rows, and replaces those that have the sequence number before. Returns the keys of
    /// the rows that were written.
    async fn replace_rows(&mut self, rows: Vec<Row>) -> QueryResult<Vec<Key>> {
        let mut rows = rows;
        rows.sort_unstable_by_key(|row| row.key);
        let statement = Replace(rows.iter().map(Values::of).collect());
        let written: Vec<Vec<u8>> = (&statement).load(self).await?;
        let keys = written.into_iter().filter_map(|key| key.try_into().ok());
        Ok(keys.collect())
    }

    /// Takes counts back, like `replace_rows`. A single row of which nothing is left is deleted,
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
                let deleted = diesel::delete(login_throttle::table.find(&row.key[..]))
                    .filter(login_throttle::revision.eq(row.revision))
                    .execute(self)
                    .await?;
                Ok(vec![row.key; deleted])
            }
            _ => self.replace_rows(lowered).await,
        }
    }
}

/// The statement as SQL: Diesel does not keep an upsert of its own prepared.
struct Replace(Vec<Values>);

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

impl<DB> QueryFragment<DB> for Replace
where
    DB: Backend,
    i64: ToSql<BigInt, DB>,
    [u8; 32]: ToSql<Binary, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO login_throttle (key_hash, revision, free_from, failed_at, day_failures, \
             day_ends_at, blocked_until, known_until) VALUES ",
        );
        for (n, row) in self.0.iter().enumerate() {
            out.push_sql(if n == 0 { "(" } else { ", (" });
            out.push_bind_param::<Binary, _>(&row.key)?;
            for number in &row.numbers {
                out.push_sql(", ");
                out.push_bind_param::<BigInt, _>(number)?;
            }
            out.push_sql(", 0, 0)");
        }
        out.push_sql(
            " ON CONFLICT (key_hash) DO UPDATE SET revision = excluded.revision, \
             free_from = excluded.free_from, failed_at = excluded.failed_at, \
             day_failures = excluded.day_failures, day_ends_at = excluded.day_ends_at \
             WHERE (login_throttle.revision & 140737488355327) \
             = (excluded.revision & 140737488355327) - 1 RETURNING key_hash",
        );
        Ok(())
    }
}

/// No static id: the statement is kept prepared by its text.
impl QueryId for Replace {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Replace {
    type SqlType = Binary;
}
