//! The rotation of one refresh token: compare-and-set in one statement.
//!
//! It is written as SQL, since Diesel never keeps a prepared UPDATE of its own: each would be
//! prepared, run and closed again, three round trips instead of one.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{Binary, HasSqlType},
};
use diesel_async::RunQueryDsl;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, info_span};

use super::{Columns, SessionRow, group::Entry};
use crate::{
    db::{Db, Error, sql_types::Moment, with_conn},
    model::{Session, Timestamp},
    telemetry::SPANS,
};

/// One rotation of a refresh token.
#[derive(Clone)]
pub struct Rotation {
    /// SHA-256 of the presented token's handle.
    pub handle_hash: [u8; 32],
    /// SHA-256 of the presented token's secret.
    pub token_hash: [u8; 32],
    /// SHA-256 of the next secret.
    pub new_token_hash: [u8; 32],
    /// The next secret, sealed with the presented one.
    pub sealed_successor: [u8; 32],
    /// When.
    pub now: Timestamp,
    /// The new sliding end.
    pub expires_at: Timestamp,
}

/// Of a caller whose statement is that of others, too.
fn together() -> Span {
    info_span!(target: SPANS, "sql", otel.name = "rotate_together", otel.kind = "client")
}

impl Db {
    /// Rotates the token, if it is the current one of a live session: of many concurrent
    /// rotations exactly one succeeds.
    pub async fn rotate(&self, rotation: &Rotation) -> Result<Option<Session>, Error> {
        let deadline = Instant::now() + self.timeout;
        let alone = self.rotate_alone(rotation, deadline);
        match self.groups.as_ref().map(|groups| groups.enter(rotation)) {
            None => alone.await,
            Some(Entry::Turn(turn)) => turn.hold(alone).await,
            // If it was rotated all the same, it finds its own new token.
            Some(Entry::Together(answer)) => {
                match timeout(self.timeout / 2, answer.instrument(together())).await {
                    Ok(Ok(session)) => Ok(Some(session)),
                    Ok(Err(_)) | Err(_) => alone.await,
                }
            }
        }
    }

    async fn rotate_alone(
        &self,
        rotation: &Rotation,
        deadline: Instant,
    ) -> Result<Option<Session>, Error> {
        with_conn!(self, deadline, conn => {
            let (rotation, columns) = (rotation.clone(), SessionRow::columns());
            Alone { rotation, columns }
                .get_result::<SessionRow>(conn).await.optional()?.map(Session::from)
        })
    }
}

#[derive(QueryId)]
struct Alone {
    rotation: Rotation,
    columns: Columns,
}

impl<DB> QueryFragment<DB> for Alone
where
    DB: Backend + HasSqlType<Moment>,
    [u8; 32]: ToSql<Binary, DB>,
    Timestamp: ToSql<Moment, DB>,
    Columns: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let rotation = &self.rotation;
        out.push_sql(
            "UPDATE sessions SET generation = generation + 1, \
             previous_token_hash = token_hash, token_hash = ",
        );
        out.push_bind_param::<Binary, _>(&rotation.new_token_hash)?;
        out.push_sql(", sealed_successor = ");
        out.push_bind_param::<Binary, _>(&rotation.sealed_successor)?;
        out.push_sql(", rotated_at = ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(", expires_at = ");
        out.push_bind_param::<Moment, _>(&rotation.expires_at)?;
        out.push_sql(" WHERE handle_hash = ");
        out.push_bind_param::<Binary, _>(&rotation.handle_hash)?;
        out.push_sql(" AND token_hash = ");
        out.push_bind_param::<Binary, _>(&rotation.token_hash)?;
        out.push_sql(" AND revoked_at IS NULL AND expires_at > ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(" AND ends_at > ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(" RETURNING ");
        self.columns.walk_ast(out)
    }
}

impl Query for Alone {
    type SqlType = diesel::dsl::SqlTypeOf<Columns>;
}
