//! How much waits to be published.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, with_conn},
    model::{Backlog, Timestamp},
};

/// Up to here a backlog is counted row by row; a longer one by its first and last row, an
/// upper bound. A backlog of any size costs the database a few milliseconds.
const COUNTED: i64 = 10_000;

impl Db {
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        let waiting = || outbox_events::table.filter(outbox_events::parked_at.is_null());
        with_conn!(self, conn => {
            let parked = outbox_events::table.filter(outbox_events::parked_at.is_not_null());
            let parked = parked.count().get_result(conn).await?;
            let oldest: Option<(i64, Timestamp)> = waiting()
                .order(outbox_events::id)
                .select((outbox_events::id, outbox_events::occurred_at))
                .first(conn)
                .await
                .optional()?;
            let Some((first, oldest)) = oldest else {
                return Ok(Backlog { pending: 0, oldest: None, parked });
            };
            let beyond = waiting().order(outbox_events::id).select(outbox_events::id);
            let beyond: Option<i64> = beyond.offset(COUNTED).first(conn).await.optional()?;
            let pending = match beyond {
                None => waiting().count().get_result(conn).await?,
                Some(_) => {
                    let last = outbox_events::table.select(diesel::dsl::max(outbox_events::id));
                    let last: Option<i64> = last.get_result(conn).await?;
                    last.unwrap_or(first) - first + 1
                }
            };
            Backlog { pending, oldest: Some(oldest), parked }
        })
    }
}
