//! The statements of the throttle: SQL as it is, written once for both databases.
//!
//! Diesel has no words for an upsert that asks about other rows, and does not keep a raw
//! query prepared. So these are templates, in which `:name` stands for a value.

use std::time::Duration;

use diesel::{
    backend::Backend,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::QueryResult,
    serialize::ToSql,
    sql_types::{BigInt, Binary, Nullable, Text},
    sqlite::Sqlite,
};

use super::{Attempt, Count};
use crate::{
    db::sql_types::{Moment, Uuid},
    model::Timestamp,
};

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Counts an attempt unless one of its rows is blocked. Whatever another attempt has done
/// since the statement began, no row is raised that is blocked.
///
/// A failure moves `free_from` on by the time in which it fades, from where it was or from
/// where a new row has it. As long as that is in the past the failure was free. Beyond, each
/// further fade is one failure more, and doubles the wait.
const ADMIT: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
SELECT column1, column2, column3, column4, column5, column6 FROM (VALUES :rows) AS attempt
WHERE NOT EXISTS (
    SELECT 1 FROM login_throttle AS held WHERE held.key_hash IN (:keys)
    AND (held.blocked_until > :now OR (held.day_ends_at > :now AND held.day_failures >= :daily))
    AND NOT (held.key_hash = :account AND EXISTS (
        SELECT 1 FROM login_throttle AS pair
        WHERE pair.key_hash = :pair AND pair.known_until > :now)))
ORDER BY column1
ON CONFLICT (key_hash) DO UPDATE SET
    (free_from, blocked_until) = (
        SELECT raised, CASE WHEN raised > :now THEN :now + :least(:longest,
            :first << CAST(((raised - :now - 1) - (raised - :now - 1) % :fade) / :fade AS integer))
            ELSE kept.blocked_until END
        FROM (SELECT :least(:greatest(kept.free_from + :fade, excluded.free_from), :most)
            AS raised) AS next),
    day_failures = excluded.day_failures
        + CASE WHEN kept.day_ends_at > :now THEN kept.day_failures ELSE 0 END,
    day_ends_at = CASE WHEN kept.day_ends_at > :now THEN kept.day_ends_at
        ELSE excluded.day_ends_at END
WHERE NOT (kept.blocked_until > :now
    OR (kept.day_ends_at > :now AND kept.day_failures >= :daily))
RETURNING key_hash, blocked_until, known_until,
    (SELECT id FROM users WHERE email = :email),
    (SELECT password_hash FROM users WHERE email = :email),
    (SELECT password_changed_at FROM users WHERE email = :email)";

/// An upsert, although the rows are there, because it locks them in the order given. In the
/// new row `free_from` is what to take back, or 0 to clear; a block that another attempt has
/// caused since stays.
const SETTLE: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
VALUES :rows
ON CONFLICT (key_hash) DO UPDATE SET
    free_from = CASE WHEN excluded.free_from = 0 THEN 0
        ELSE kept.free_from - excluded.free_from END,
    blocked_until = CASE
        WHEN excluded.free_from = 0 OR kept.blocked_until = excluded.blocked_until THEN 0
        ELSE kept.blocked_until END,
    day_failures = :greatest(kept.day_failures - excluded.day_failures, 0),
    known_until = :greatest(kept.known_until, excluded.known_until)";

/// Skips what a call has locked: it has not faded.
const DELETE_FADED: &str = "\
DELETE FROM login_throttle WHERE key_hash IN (
    SELECT key_hash FROM login_throttle WHERE key_hash > :after AND key_hash <= :last
    AND free_from < :faded AND blocked_until < :faded AND day_ends_at < :faded
    AND known_until < :faded
    ORDER BY key_hash :skip_locked)";

/// A row to insert, or in [`SETTLE`] how to change one.
pub(super) struct Row {
    key: Vec<u8>,
    free_from: i64,
    blocked_until: i64,
    day_failures: i64,
    day_ends_at: i64,
    known_until: i64,
}

impl Row {
    /// The first failure of a count.
    fn first(count: Count, attempt: &Attempt<'_>) -> Self {
        let (now, fade) = (attempt.now.as_micros(), micros(attempt.limits.fade));
        let is_account = attempt.account == Some(count);
        let blocked_until = now + micros(attempt.limits.first_wait);
        Self {
            key: count.key.to_vec(),
            free_from: now + (2 - i64::from(count.free)) * fade,
            blocked_until: if count.free > 1 { 0 } else { blocked_until },
            day_failures: i64::from(is_account),
            day_ends_at: if is_account { now + DAY_MICROS } else { 0 },
            known_until: 0,
        }
    }

    /// Forgets the failures. The day still counts them, but for this one if it was counted.
    pub(super) fn cleared(key: &[u8], is_counted: bool) -> Self {
        Self {
            day_failures: i64::from(is_counted),
            ..Self::taken_back(key, Duration::ZERO, 0, false)
        }
    }

    pub(super) fn known(self, until: Timestamp) -> Self {
        Self {
            known_until: until.as_micros(),
            ..self
        }
    }

    /// Takes one failure back, and the block that it caused.
    pub(super) fn taken_back(
        key: &[u8],
        fade: Duration,
        blocked_until: i64,
        is_account: bool,
    ) -> Self {
        Self {
            key: key.to_vec(),
            free_from: micros(fade),
            blocked_until,
            day_failures: i64::from(is_account),
            day_ends_at: 0,
            known_until: 0,
        }
    }
}

/// A template and its values.
pub(in crate::db) struct Statement {
    template: &'static str,
    rows: Vec<Row>,
    numbers: Vec<(&'static str, i64)>,
    bytes: Vec<(&'static str, Vec<u8>)>,
    email: String,
}

impl Statement {
    pub(super) fn admit(attempt: &Attempt<'_>) -> Self {
        let (limits, now) = (attempt.limits, attempt.now.as_micros());
        let (first, fade) = (micros(limits.first_wait), micros(limits.fade));
        let longest = micros(limits.longest_wait);
        // So often may the wait double until it is the longest.
        let doublings = (0..62).take_while(|n| first << n < longest).count();
        let doublings = i64::try_from(doublings).expect("at most 62");
        let key = |count: Option<Count>| count.map_or_else(Vec::new, |count| count.key.to_vec());
        Self {
            template: ADMIT,
            rows: sorted(attempt.counts().map(|count| Row::first(count, attempt))),
            numbers: vec![
                ("now", now),
                ("first", first),
                ("longest", longest),
                ("fade", fade),
                ("most", now + (doublings + 1) * fade),
                ("daily", limits.daily_per_account.into()),
            ],
            bytes: vec![
                ("account", key(attempt.account)),
                ("pair", key(attempt.pair)),
            ],
            // No account has an empty one.
            email: attempt.email.unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn settle(rows: Vec<Row>) -> Self {
        Self {
            rows: sorted(rows),
            ..Self::of(SETTLE)
        }
    }

    pub(in crate::db) fn delete_faded(
        after: Vec<u8>,
        last: Vec<u8>,
        faded_before: Timestamp,
    ) -> Self {
        Self {
            numbers: vec![("faded", faded_before.as_micros())],
            bytes: vec![("after", after), ("last", last)],
            ..Self::of(DELETE_FADED)
        }
    }

    const fn of(template: &'static str) -> Self {
        Self {
            template,
            rows: Vec::new(),
            numbers: Vec::new(),
            bytes: Vec::new(),
            email: String::new(),
        }
    }
}

fn sorted(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

/// In microseconds, as the table has times.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Where the databases differ.
pub(super) trait Dialect: Backend {
    const LEAST: &str;
    const GREATEST: &str;
    const SKIP_LOCKED: &str;
}

impl Dialect for Pg {
    const LEAST: &str = "LEAST";
    const GREATEST: &str = "GREATEST";
    const SKIP_LOCKED: &str = "FOR UPDATE SKIP LOCKED";
}

impl Dialect for Sqlite {
    const LEAST: &str = "MIN";
    const GREATEST: &str = "MAX";
    /// It has one writer.
    const SKIP_LOCKED: &str = "";
}

impl<DB> QueryFragment<DB> for Statement
where
    DB: Dialect,
    i64: ToSql<BigInt, DB>,
    [u8]: ToSql<Binary, DB>,
    str: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut parts = self.template.split(':');
        out.push_sql(parts.next().unwrap_or_default());
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let (name, sql) = part.split_at(end.unwrap_or(part.len()));
            match name {
                "least" => out.push_sql(DB::LEAST),
                "greatest" => out.push_sql(DB::GREATEST),
                "skip_locked" => out.push_sql(DB::SKIP_LOCKED),
                "rows" => self.push_rows(&mut out)?,
                "keys" => self.push_keys(&mut out)?,
                "email" => out.push_bind_param::<Text, str>(&self.email)?,
                name => self.push_value(name, &mut out)?,
            }
            out.push_sql(sql);
        }
        Ok(())
    }
}

impl Statement {
    fn push_value<'b, DB>(&'b self, name: &str, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        DB: Dialect,
        i64: ToSql<BigInt, DB>,
        [u8]: ToSql<Binary, DB>,
    {
        if let Some((_, number)) = self.numbers.iter().find(|(known, _)| *known == name) {
            return out.push_bind_param::<BigInt, i64>(number);
        }
        let bytes = self.bytes.iter().find(|(known, _)| *known == name);
        let (_, bytes) = bytes.expect("every name in a template has a value");
        out.push_bind_param::<Binary, [u8]>(bytes)
    }

    fn push_keys<'b, DB>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        DB: Dialect,
        [u8]: ToSql<Binary, DB>,
    {
        for (n, row) in self.rows.iter().enumerate() {
            out.push_sql(if n == 0 { "" } else { ", " });
            out.push_bind_param::<Binary, [u8]>(&row.key)?;
        }
        Ok(())
    }

    fn push_rows<'b, DB>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        DB: Dialect,
        i64: ToSql<BigInt, DB>,
        [u8]: ToSql<Binary, DB>,
    {
        for (n, row) in self.rows.iter().enumerate() {
            out.push_sql(if n == 0 { "(" } else { ", (" });
            out.push_bind_param::<Binary, [u8]>(&row.key)?;
            for number in [
                &row.free_from,
                &row.blocked_until,
                &row.day_failures,
                &row.day_ends_at,
                &row.known_until,
            ] {
                out.push_sql(", ");
                out.push_bind_param::<BigInt, i64>(number)?;
            }
            out.push_sql(")");
        }
        Ok(())
    }
}

/// Kept prepared by its text.
impl QueryId for Statement {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

/// What [`ADMIT`] returns.
impl Query for Statement {
    type SqlType = (
        Binary,
        BigInt,
        BigInt,
        Nullable<Uuid>,
        Nullable<Text>,
        Nullable<Moment>,
    );
}
