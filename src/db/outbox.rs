//! Events between their commit and Kafka's acknowledgement, and the lease of the one
//! replica that publishes them.

use std::{collections::HashSet, time::Duration};

use diesel::{
    backend::Backend,
    dsl::sql,
    prelude::*,
    query_builder::{BoxedSqlQuery, SqlQuery},
    serialize::ToSql,
    sql_types::{BigInt, Binary, HasSqlType, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::{
    Db, Error, Pools,
    schema::{outbox_events, outbox_lease},
    sql_types::{Moment, Uuid},
    with_conn,
};
use crate::model::{Event, EventId, ReplicaId, Timestamp, Traceparent, UserId};

/// A row to insert.
#[derive(Insertable)]
#[diesel(table_name = outbox_events)]
pub(super) struct EventRow<'a> {
    event_id: EventId,
    user_id: UserId,
    user_version: i64,
    event_type: &'static str,
    occurred_at: Timestamp,
    traceparent: Option<&'a str>,
    payload: Vec<u8>,
}

impl<'a> EventRow<'a> {
    /// The event as the next one of its user, encoded.
    pub(super) fn new(event: &'a Event, user_version: i64) -> Self {
        Self {
            event_id: event.id,
            user_id: event.user_id,
            user_version,
            event_type: event.event_type(),
            occurred_at: event.act.now,
            traceparent: event.act.traceparent.as_ref().map(Traceparent::as_str),
            payload: event.encode(user_version),
        }
    }
}

/// Inserts several rows in one statement, in this order. (Diesel's own way has no
/// asynchronous form on SQLite.)
pub(super) fn insert_events<'a, DB>(rows: Vec<EventRow<'a>>) -> BoxedSqlQuery<'a, DB, SqlQuery>
where
    DB: Backend + HasSqlType<Uuid> + HasSqlType<Moment> + HasSqlType<Nullable<Text>>,
    EventId: ToSql<Uuid, DB>,
    UserId: ToSql<Uuid, DB>,
    i64: ToSql<BigInt, DB>,
    &'static str: ToSql<Text, DB>,
    Timestamp: ToSql<Moment, DB>,
    Option<&'a str>: ToSql<Nullable<Text>, DB>,
    Vec<u8>: ToSql<Binary, DB>,
{
    const COLUMNS: [&str; 7] = [
        "event_id",
        "user_id",
        "user_version",
        "event_type",
        "occurred_at",
        "traceparent",
        "payload",
    ];
    let tuple = |row: usize| {
        let parameters = (1..=COLUMNS.len()).map(|n| format!("${}", row * COLUMNS.len() + n));
        format!("({})", parameters.collect::<Vec<_>>().join(", "))
    };
    let tuples: Vec<_> = (0..rows.len()).map(tuple).collect();
    let sql = format!(
        "INSERT INTO outbox_events ({}) VALUES {}",
        COLUMNS.join(", "),
        tuples.join(", ")
    );
    let query = diesel::sql_query(sql).into_boxed();
    rows.into_iter().fold(query, |query, row| {
        query
            .bind::<Uuid, _>(row.event_id)
            .bind::<Uuid, _>(row.user_id)
            .bind::<BigInt, _>(row.user_version)
            .bind::<Text, _>(row.event_type)
            .bind::<Moment, _>(row.occurred_at)
            .bind::<Nullable<Text>, _>(row.traceparent)
            .bind::<Binary, _>(row.payload)
    })
}

/// An event that waits to be published.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = outbox_events)]
pub struct PendingEvent {
    /// The row: its order among all events.
    pub id: i64,
    /// The same in every copy of the event.
    pub event_id: EventId,
    /// Whom it is about: the record's key.
    pub user_id: UserId,
    /// Counts 1, 2, 3, .. per user.
    pub user_version: i64,
    /// `USER_CREATED`, ..
    pub event_type: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The W3C trace context of the request that caused it.
    pub traceparent: Option<String>,
    /// The encoded `UserEvent`.
    pub payload: Vec<u8>,
}

/// An event that Kafka refused, and that blocks the later ones of its user.
#[derive(Debug, Queryable)]
pub struct ParkedEvent {
    /// Which.
    pub event_id: EventId,
    /// Whom it is about.
    pub user_id: UserId,
    /// Counts the user's events from 1.
    pub user_version: i64,
    /// `USER_CREATED`, ..
    pub event_type: String,
    /// When it was parked.
    pub parked_at: Option<Timestamp>,
    /// What Kafka said.
    pub parked_reason: Option<String>,
}

/// How much waits to be published.
#[derive(Debug)]
pub struct Backlog {
    /// How many events, the parked ones not counted. Beyond [`COUNTED`] an upper bound.
    pub pending: i64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// How many are parked.
    pub parked: i64,
}

/// Up to here a backlog is counted row by row; a longer one by its first and last row.
pub const COUNTED: i64 = 10_000;

impl Db {
    /// How much waits to be published: a few milliseconds' work, however much it is.
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        let waiting = || outbox_events::table.filter(outbox_events::parked_at.is_null());
        with_conn!(self, conn => {
            let parked = outbox_events::table
                .filter(outbox_events::parked_at.is_not_null())
                .count()
                .get_result(conn)
                .await?;
            let columns = (outbox_events::id, outbox_events::occurred_at);
            let oldest: Option<(i64, Timestamp)> = waiting()
                .order(outbox_events::id)
                .select(columns)
                .first(conn)
                .await
                .optional()?;
            let Some((first, oldest)) = oldest else {
                return Ok(Backlog { pending: 0, oldest: None, parked });
            };
            let beyond: Option<i64> = waiting()
                .order(outbox_events::id)
                .select(outbox_events::id)
                .offset(COUNTED)
                .first(conn)
                .await
                .optional()?;
            let pending = match beyond {
                None => waiting().count().get_result(conn).await?,
                Some(_) => {
                    let last = outbox_events::table
                        .select(diesel::dsl::max(outbox_events::id))
                        .get_result::<Option<i64>>(conn)
                        .await?;
                    last.unwrap_or(first) - first + 1
                }
            };
            Backlog { pending, oldest: Some(oldest), parked }
        })
    }

    /// The oldest events after this row whose user has no parked one.
    ///
    /// Whoever reads on after a row must mind that a lower id may become visible later: see
    /// [`Db::users_waiting`].
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
                .select(PendingEvent::as_select())
                .load(conn)
                .await?
        })
    }

    /// Which users of the events after this row, up to the row `last`, have one up to it, too.
    /// It joins the two: a list of the users it would go through for each row.
    pub async fn users_waiting(&self, row: i64, last: i64) -> Result<HashSet<UserId>, Error> {
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

    /// Forgets events that Kafka acknowledged.
    pub async fn delete_events(&self, ids: &[i64]) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::delete(outbox_events::table.filter(outbox_events::id.eq_any(ids)))
                .execute(conn)
                .await?;
        })
    }

    /// Sets an event aside that Kafka will never take.
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

    /// The parked events, oldest first.
    pub async fn parked_events(&self) -> Result<Vec<ParkedEvent>, Error> {
        with_conn!(self, conn => {
            outbox_events::table
                .filter(outbox_events::parked_at.is_not_null())
                .order(outbox_events::id)
                .select((
                    outbox_events::event_id,
                    outbox_events::user_id,
                    outbox_events::user_version,
                    outbox_events::event_type,
                    outbox_events::parked_at,
                    outbox_events::parked_reason,
                ))
                .load(conn)
                .await?
        })
    }

    /// Lets a parked event be tried again. Says whether there was one.
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

    /// Deletes a parked event, which is never published then. Says whether there was one.
    pub async fn discard_event(&self, event_id: EventId) -> Result<bool, Error> {
        with_conn!(self, conn => {
            diesel::delete(outbox_events::table)
                .filter(outbox_events::event_id.eq(event_id))
                .filter(outbox_events::parked_at.is_not_null())
                .execute(conn)
                .await? > 0
        })
    }

    /// Takes the lease or renews it for `ttl`, if nobody else holds it. The database's
    /// clock decides, so replicas need not agree on the time.
    pub async fn hold_lease(&self, owner: ReplicaId, ttl: Duration) -> Result<bool, Error> {
        let (now, until) = match &self.pools {
            Pools::Postgres(_) => (
                "now()".to_owned(),
                format!("now() + interval '{} milliseconds'", ttl.as_millis()),
            ),
            Pools::Sqlite(_) => (
                SQLITE_NOW.to_owned(),
                format!("{SQLITE_NOW} + {}", ttl.as_micros()),
            ),
        };
        with_conn!(self, conn => {
            diesel::update(outbox_lease::table)
                .filter(
                    outbox_lease::owner
                        .eq(owner)
                        .or(outbox_lease::expires_at.le(sql::<Moment>(&now))),
                )
                .set((
                    outbox_lease::owner.eq(owner),
                    outbox_lease::expires_at.eq(sql::<Moment>(&until)),
                ))
                .execute(conn)
                .await? > 0
        })
    }

    /// Gives the lease up, so that another replica need not wait for its end.
    pub async fn release_lease(&self, owner: ReplicaId) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::update(outbox_lease::table)
                .filter(outbox_lease::owner.eq(owner))
                .set(outbox_lease::expires_at.eq(Timestamp::from_micros(0)))
                .execute(conn)
                .await?;
        })
    }
}

/// Microseconds since 1970, as our columns count.
const SQLITE_NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";
