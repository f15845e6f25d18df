//! Events for the publisher.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, with_conn},
    model::{EventId, PendingEvent, Timestamp, UserId},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = outbox_events)]
struct PendingEventRow {
    id: i64,
    event_id: EventId,
    user_id: UserId,
    user_version: i64,
    event_type: String,
    occurred_at: Timestamp,
    traceparent: Option<String>,
    payload: Vec<u8>,
}

impl From<PendingEventRow> for PendingEvent {
    fn from(row: PendingEventRow) -> Self {
        Self {
            id: row.id,
            event_id: row.event_id,
            user_id: row.user_id,
            user_version: row.user_version,
            event_type: row.event_type,
            occurred_at: row.occurred_at,
            traceparent: row.traceparent,
            payload: row.payload,
        }
    }
}

impl Db {
    /// The oldest events after this row whose user has no parked one.
    ///
    /// A lower id may become visible later, because ids are drawn before the commit. A caller
    /// that goes on after a row asks [`Db::users_with_earlier_events`], too.
    pub async fn pending_events(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<PendingEvent>, Error> {
        let parked = diesel::alias!(outbox_events as parked);
        let (parked_user, parked_at) = (
            parked.field(outbox_events::user_id),
            parked.field(outbox_events::parked_at),
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::id.gt(after))
                .filter(diesel::dsl::not(diesel::dsl::exists(
                    parked
                        .filter(parked_at.is_not_null())
                        .filter(parked_user.eq(outbox_events::user_id)),
                )))
                .order(outbox_events::id)
                .limit(limit)
                .select(PendingEventRow::as_select())
                .load(conn)
                .await?
                .into_iter()
                .map(PendingEvent::from)
                .collect()
        })
    }

    /// The users who have an event after this row, up to the row `last`, and also one up to
    /// this row. The statement joins the two: with a list of the users, it would go through the
    /// list for each row.
    pub async fn users_with_earlier_events(
        &self,
        row: i64,
        last: i64,
    ) -> Result<HashSet<UserId>, Error> {
        let earlier = diesel::alias!(outbox_events as earlier);
        let (id, user_id) = (
            earlier.field(outbox_events::id),
            earlier.field(outbox_events::user_id),
        );
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::id.gt(row).and(outbox_events::id.le(last)))
                .filter(outbox_events::user_id.eq_any(earlier.filter(id.le(row)).select(user_id)))
                .select(outbox_events::user_id)
                .load(conn)
                .await?
                .into_iter()
                .collect()
        })
    }

    /// Deletes events that Kafka acknowledged.
    pub async fn delete_events(&self, ids: &[i64]) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::delete(outbox_events::table.filter(outbox_events::id.eq_any(ids)))
                .execute(conn)
                .await?;
        })
    }

    /// Sets an event aside that Kafka refused. The later ones of its user wait.
    pub async fn park_event(&self, id: i64, reason: &str, now: Timestamp) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::update(outbox_events::table.find(id))
                .set((
                    outbox_events::parked_at.eq(now),
                    outbox_events::parked_reason.eq(reason),
                ))
                .execute(conn)
                .await?;
        })
    }
}
