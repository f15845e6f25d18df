//! Recording revocations.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{HasSqlType, Nullable},
};

use crate::{
    db::sql_types::{Moment, Uuid},
    model::{Revocation, RevocationId, RevokedTokens, SessionId, Timestamp, UserId},
};

struct Row {
    id: RevocationId,
    session_id: Option<SessionId>,
    user_id: Option<UserId>,
    issued_before: Option<Timestamp>,
    until: Timestamp,
}

/// Inserts revocations in one statement. (Diesel's own way is not async on SQLite.)
pub(super) struct InsertRevocations(Vec<Row>);

impl InsertRevocations {
    pub(super) fn new(revoked: &[Revocation], now: Timestamp) -> Self {
        let rows = revoked.iter().map(|revocation| {
            let (session_id, user_id, issued_before) = match revocation.tokens {
                RevokedTokens::Session(id) => (Some(id), None, None),
                RevokedTokens::User(id, issued_before) => (None, Some(id), Some(issued_before)),
            };
            Row {
                id: RevocationId::new(now),
                session_id,
                user_id,
                issued_before,
                until: revocation.until,
            }
        });
        Self(rows.collect())
    }
}

impl<DB> QueryFragment<DB> for InsertRevocations
where
    DB: Backend + HasSqlType<Uuid> + HasSqlType<Moment>,
    RevocationId: ToSql<Uuid, DB>,
    Option<SessionId>: ToSql<Nullable<Uuid>, DB>,
    Option<UserId>: ToSql<Nullable<Uuid>, DB>,
    Option<Timestamp>: ToSql<Nullable<Moment>, DB>,
    Timestamp: ToSql<Moment, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if self.0.len() > 1 {
            // A statement for each number of rows.
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(
            "INSERT INTO revocations (id, session_id, user_id, issued_before, until) VALUES ",
        );
        for (n, row) in self.0.iter().enumerate() {
            out.push_sql(if n == 0 { "(" } else { ", (" });
            out.push_bind_param::<Uuid, _>(&row.id)?;
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Uuid>, _>(&row.session_id)?;
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Uuid>, _>(&row.user_id)?;
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Moment>, _>(&row.issued_before)?;
            out.push_sql(", ");
            out.push_bind_param::<Moment, _>(&row.until)?;
            out.push_sql(")");
        }
        Ok(())
    }
}

impl QueryId for InsertRevocations {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}
