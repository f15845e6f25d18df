//! How much waits to be published.

use diesel::{prelude::*, sql_types::BigInt, sql_types::Nullable};
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, sql_types::Moment, with_conn},
    model::{Backlog, Timestamp},
};

/// Up to here a backlog is counted row by row; a longer one by its lowest and highest id, an
/// upper bound. A backlog of any size costs the database a few milliseconds.
const COUNTED: i64 = 10_000;

/// The events with the lowest ids. Ids do not follow the time: the oldest event is searched
/// among all of them.
#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    lowest: Option<i64>,
    #[diesel(sql_type = Nullable<Moment>)]
    oldest: Option<Timestamp>,
}

impl Db {
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        with_conn!(self, conn => {
            let parked = outbox_events::table.filter(outbox_events::parked_at.is_not_null());
            let parked = parked.count().get_result(conn).await?;
            let sql = format!(
                "SELECT count(*) AS count, min(id) AS lowest, min(occurred_at) AS oldest FROM \
                 (SELECT id, occurred_at FROM outbox_events WHERE parked_at IS NULL \
                 ORDER BY id LIMIT {COUNTED}) AS counted"
            );
            let counted: Counted = diesel::sql_query(sql).get_result(conn).await?;
            let pending = match counted.lowest {
                Some(lowest) if counted.count == COUNTED => {
                    let highest = outbox_events::table.select(diesel::dsl::max(outbox_events::id));
                    let highest: Option<i64> = highest.get_result(conn).await?;
                    highest.unwrap_or(lowest).saturating_sub(lowest).saturating_add(1)
                }
                _ => counted.count,
            };
            Backlog { pending, oldest: counted.oldest, parked }
        })
    }
}
