//! Parked events, for the operator.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, with_conn},
    model::{EventId, ParkedEvent, Timestamp, UserId},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = outbox_events)]
struct ParkedEventRow {
    event_id: EventId,
    user_id: UserId,
    user_version: i64,
    event_type: String,
    parked_at: Option<Timestamp>,
    parked_reason: Option<String>,
}

impl From<ParkedEventRow> for ParkedEvent {
    fn from(row: ParkedEventRow) -> Self {
        Self {
            event_id: row.event_id,
            user_id: row.user_id,
            user_version: row.user_version,
            event_type: row.event_type,
            parked_at: row.parked_at,
            parked_reason: row.parked_reason,
        }
    }
}

impl Db {
    /// The parked events, oldest first.
    pub async fn parked_events(&self) -> Result<Vec<ParkedEvent>, Error> {
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::parked_at.is_not_null())
                .order(outbox_events::id)
                .select(ParkedEventRow::as_select())
                .load(conn)
                .await?
                .into_iter()
                .map(ParkedEvent::from)
                .collect()
        })
    }

    /// Lets a parked event be tried again. False if there is no such parked event.
    pub async fn requeue_event(&self, event_id: EventId) -> Result<bool, Error> {
        with_conn!(self, conn => {
            diesel::update(outbox_events::table)
                .filter(outbox_events::event_id.eq(event_id))
                .filter(outbox_events::parked_at.is_not_null())
                .set((
                    outbox_events::parked_at.eq(None::<Timestamp>),
                    outbox_events::parked_reason.eq(None::<String>),
                ))
                .execute(conn)
                .await? > 0
        })
    }

    /// Deletes a parked event: it is never published. False if there is no such parked event.
    pub async fn discard_event(&self, event_id: EventId) -> Result<bool, Error> {
        with_conn!(self, conn => {
            diesel::delete(outbox_events::table)
                .filter(outbox_events::event_id.eq(event_id))
                .filter(outbox_events::parked_at.is_not_null())
                .execute(conn)
                .await? > 0
        })
    }
}
