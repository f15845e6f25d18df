//! The exchange of one refresh token: compare-and-set in one statement.
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

/// One exchange of a refresh token.
#[derive(Clone)]
pub struct Exchange {
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
    info_span!(target: SPANS, "sql", otel.name = "exchange_together", otel.kind = "client")
}

impl Db {
    /// Exchanges the token, if it is the current one of a live session: of many concurrent
    /// exchanges exactly one succeeds.
    pub async fn exchange_token(&self, exchange: &Exchange) -> Result<Option<Session>, Error> {
        let deadline = Instant::now() + self.timeout;
        let alone = self.exchange_alone(exchange, deadline);
        match self.groups.as_ref().map(|groups| groups.enter(exchange)) {
            None => alone.await,
            Some(Entry::Turn(turn)) => turn.hold(alone).await,
            // If it was exchanged all the same, it finds its own new token.
            Some(Entry::Together(answer)) => {
                match timeout(self.timeout / 2, answer.instrument(together())).await {
                    Ok(Ok(session)) => Ok(Some(session)),
                    Ok(Err(_)) | Err(_) => alone.await,
                }
            }
        }
    }

    async fn exchange_alone(
        &self,
        exchange: &Exchange,
        deadline: Instant,
    ) -> Result<Option<Session>, Error> {
        with_conn!(self, deadline, conn => {
            let (exchange, columns) = (exchange.clone(), SessionRow::columns());
            Alone { exchange, columns }
                .get_result::<SessionRow>(conn).await.optional()?.map(Session::from)
        })
    }
}

#[derive(QueryId)]
struct Alone {
    exchange: Exchange,
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
        let exchange = &self.exchange;
        out.push_sql(
            "UPDATE sessions SET generation = generation + 1, \
             previous_token_hash = token_hash, token_hash = ",
        );
        out.push_bind_param::<Binary, _>(&exchange.new_token_hash)?;
        out.push_sql(", sealed_successor = ");
        out.push_bind_param::<Binary, _>(&exchange.sealed_successor)?;
        out.push_sql(", rotated_at = ");
        out.push_bind_param::<Moment, _>(&exchange.now)?;
        out.push_sql(", expires_at = ");
        out.push_bind_param::<Moment, _>(&exchange.expires_at)?;
        out.push_sql(" WHERE handle_hash = ");
        out.push_bind_param::<Binary, _>(&exchange.handle_hash)?;
        out.push_sql(" AND token_hash = ");
        out.push_bind_param::<Binary, _>(&exchange.token_hash)?;
        out.push_sql(" AND revoked_at IS NULL AND expires_at > ");
        out.push_bind_param::<Moment, _>(&exchange.now)?;
        out.push_sql(" AND ends_at > ");
        out.push_bind_param::<Moment, _>(&exchange.now)?;
        out.push_sql(" RETURNING ");
        self.columns.walk_ast(out)
    }
}

impl Query for Alone {
    type SqlType = diesel::dsl::SqlTypeOf<Columns>;
}
