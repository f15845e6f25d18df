//! Events for the publisher, and parked ones for the operator.

use std::{collections::HashSet, time::Duration};

use diesel::{
    dsl::{exists, not, sql},
    prelude::*,
    sql_types::Nullable,
};
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_events, sql_types::Moment, with_conn},
    model::{EventId, ParkedEvent, PendingEvent, Timestamp, UserId},
};

/// How long an event waits whose time Kafka refused. A longer wait that is stored was written by
/// a clock that was ahead.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl Db {
    /// The oldest events after this row whose user has no parked one and none that waits until
    /// Kafka accepts its time.
    ///
    /// A lower id may become visible later, because ids are drawn before the commit. A caller
    /// that goes on after a row asks [`Db::users_with_earlier_events`], too.
    pub async fn pending_events(&self, row: i64, limit: usize) -> Result<Vec<PendingEvent>, Error> {
        let parked = diesel::alias!(outbox_events as parked);
        let is_parked = parked.field(outbox_events::parked_at).is_not_null();
        let is_same_user = parked
            .field(outbox_events::user_id)
            .eq(outbox_events::user_id);
        let waiting = diesel::alias!(outbox_events as waiting);
        let (retry_at, waiting_user) =
            waiting.fields((outbox_events::retry_at, outbox_events::user_id));
        let (now, latest) = (self.sql_now(), self.sql_now_and(RETRY_AFTER));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::id.gt(row))
                .filter(not(exists(parked.filter(is_parked).filter(is_same_user))))
                // The list of users is made once: all events of a user wait, or none.
                .filter(outbox_events::user_id.ne_all(
                    waiting
                        .filter(retry_at.gt(sql::<Nullable<Moment>>(now)).assume_not_null())
                        .filter(retry_at.le(sql::<Nullable<Moment>>(&latest)).assume_not_null())
                        .select(waiting_user),
                ))
                .order(outbox_events::id)
                .limit(limit)
                .select(PendingEvent::as_select())
                .load(conn)
                .await?
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
        let (id, user_id) = earlier.fields((outbox_events::id, outbox_events::user_id));
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

    /// The parked events, oldest first.
    pub async fn parked_events(&self) -> Result<Vec<ParkedEvent>, Error> {
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::parked_at.is_not_null())
                .order(outbox_events::id)
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
