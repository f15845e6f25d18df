//! Templates with their values, as statements for both databases.

use diesel::{
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::QueryResult,
    serialize::ToSql,
    sql_types::{BigInt, Binary, Nullable, Text},
};

use super::{
    Attempt, Count,
    dialect::Dialect,
    row::{Row, micros},
    sql::{ADMIT, DELETE_FADED, SETTLE},
};
use crate::{
    db::sql_types::{Moment, Uuid},
    model::{THROTTLE_DAY, Timestamp},
};

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
        // How often the wait can double until it is the longest.
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
                (
                    "latest_free",
                    now + (doublings + 1) * fade + micros(THROTTLE_DAY),
                ),
                ("latest_block", now + longest),
                ("latest_day", now + micros(THROTTLE_DAY)),
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

    pub(in crate::db) fn delete_faded(after: &[u8], last: &[u8], faded_before: Timestamp) -> Self {
        Self {
            numbers: vec![("faded", faded_before.as_micros())],
            bytes: vec![("after", after.to_vec()), ("last", last.to_vec())],
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

/// No static id: the statement is kept prepared by its text.
impl QueryId for Statement {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

/// The columns that [`ADMIT`] returns.
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
