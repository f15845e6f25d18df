//! Events for the publisher, and parked ones for the operator.

use std::time::Duration;

use diesel::{
    dsl::{exists, not, sql},
    expression::SqlLiteral,
    prelude::*,
    sql_types::{BigInt, Nullable},
};
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, sql_types::Moment, with_conn},
    model::{
        Batch, EventId, ParkedEvent, PendingEvent, ReadEvent, Timestamp, in_user_order,
        users_without_first,
    },
};

/// How long an event waits whose time Kafka refused. A longer wait that is stored was written by
/// a clock that was ahead.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The version of the user's event before this one.
///
/// A piece of SQL, and not a query of Diesel's: a statement with such a piece is planned each
/// time. A plan that was kept from an empty table would read the whole table for each row.
fn version_before() -> SqlLiteral<Nullable<BigInt>> {
    sql(
        "(SELECT max(earlier.user_version) FROM outbox_events AS earlier \
          WHERE earlier.user_id = outbox_events.user_id \
          AND earlier.user_version < outbox_events.user_version)",
    )
}

impl Db {
    /// Reads the events with the lowest ids after this one, at most `limit`, without those of
    /// users who have a parked event or one that waits until Kafka accepts its time.
    ///
    /// Returns those that can be published: all earlier ones of their user are published, or
    /// before them in the batch. For a user whose first event has a higher id, that event is
    /// read too. A user whose first event has a lower id is left out.
    pub async fn pending_events(&self, row: i64, limit: usize) -> Result<Batch, Error> {
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let parked = diesel::alias!(outbox_events as parked);
        let is_parked = parked.field(outbox_events::parked_at).is_not_null();
        let is_same_user = parked
            .field(outbox_events::user_id)
            .eq(outbox_events::user_id);
        let waiting = diesel::alias!(outbox_events as waiting);
        let (retry_at, waiting_user) =
            waiting.fields((outbox_events::retry_at, outbox_events::user_id));
        let (now, latest) = (self.sql_now(), self.sql_now_and(RETRY_AFTER));
        with_conn!(self, conn => {
            let mut read: Vec<ReadEvent> = outbox_events::table
                .filter(outbox_events::id.gt(row))
                .filter(not(exists(parked.filter(is_parked).filter(is_same_user))))
                // The list of users is made once: all events of a user wait, or none.
                // `NOT (.. = ANY ..)`, because Postgres makes no hash table for `<> ALL`.
                .filter(not(outbox_events::user_id.eq_any(
                    waiting
                        .filter(retry_at.gt(sql::<Nullable<Moment>>(now)).assume_not_null())
                        .filter(retry_at.le(sql::<Nullable<Moment>>(&latest)).assume_not_null())
                        .select(waiting_user),
                )))
                .order(outbox_events::id)
                .limit(rows)
                .select((PendingEvent::as_select(), version_before()))
                .load(conn)
                .await?;
            let last = read.last().map(|(event, _)| event.id);
            let last_of_full = last.filter(|_| read.len() == limit);
            let users = users_without_first(&read);
            if let (Some(last), false) = (last_of_full, users.is_empty()) {
                let first: Vec<ReadEvent> = outbox_events::table
                    .filter(outbox_events::id.gt(last))
                    .filter(outbox_events::user_id.eq_any(users))
                    .filter(version_before().is_null())
                    .select((PendingEvent::as_select(), version_before()))
                    .load(conn)
                    .await?;
                read.extend(first);
            }
            Batch { events: in_user_order(read), last_of_full }
        })
    }

    /// Deletes events that Kafka acknowledged.
    pub async fn delete_events(&self, ids: &[i64]) -> Result<(), Error> {
        with_conn!(self, conn => {
            let events = outbox_events::table.filter(outbox_events::id.eq_any(ids));
            diesel::delete(events).execute(conn).await?;
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

    /// Lets events wait whose time Kafka refused, with the later ones of their users.
    pub async fn postpone_events(&self, ids: &[i64]) -> Result<(), Error> {
        let retry_at = self.sql_now_and(RETRY_AFTER);
        with_conn!(self, conn => {
            diesel::update(outbox_events::table.filter(outbox_events::id.eq_any(ids)))
                .set(outbox_events::retry_at.eq(sql::<Nullable<Moment>>(&retry_at)))
                .execute(conn)
                .await?;
        })
    }

    /// The parked events, those that were parked first before the others.
    pub async fn parked_events(&self) -> Result<Vec<ParkedEvent>, Error> {
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::parked_at.is_not_null())
                .order((outbox_events::parked_at, outbox_events::user_version))
                .select(ParkedEvent::as_select())
                .load(conn)
                .await?
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
