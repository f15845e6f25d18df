//! Writing events, in the transaction of the act that causes them.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{BoxedSqlQuery, InsertStatement, SqlQuery},
    serialize::ToSql,
    sql_types::{BigInt, Binary, HasSqlType, Nullable, Text},
};

use crate::{
    db::{
        schema::outbox_events::table,
        sql_types::{Moment, Uuid},
    },
    model::{Event, EventId, Timestamp, Traceparent, UserId},
};

#[derive(Insertable)]
#[diesel(table_name = crate::db::schema::outbox_events)]
pub(in crate::db) struct EventRow<'a> {
    event_id: EventId,
    user_id: UserId,
    user_version: i64,
    event_type: &'static str,
    occurred_at: Timestamp,
    traceparent: Option<&'a str>,
    payload: Vec<u8>,
}

impl<'a> EventRow<'a> {
    /// The encoded event, with its number among the events of its user.
    pub(in crate::db) fn new(event: &'a Event, user_version: i64) -> Self {
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

pub(in crate::db) fn insert_event(
    event: &Event,
    user_version: i64,
) -> InsertStatement<table, <EventRow<'_> as Insertable<table>>::Values> {
    diesel::insert_into(table).values(EventRow::new(event, user_version))
}

/// In the order of the parameters in [`insert_events`].
const COLUMNS: [&str; 7] = [
    "event_id",
    "user_id",
    "user_version",
    "event_type",
    "occurred_at",
    "traceparent",
    "payload",
];

/// Inserts rows in one statement, in this order. (Diesel's own way is not async on SQLite.)
pub(in crate::db) fn insert_events<DB>(rows: Vec<EventRow<'_>>) -> BoxedSqlQuery<'_, DB, SqlQuery>
where
    DB: Backend + HasSqlType<Uuid> + HasSqlType<Moment> + HasSqlType<Nullable<Text>>,
    EventId: ToSql<Uuid, DB>,
    UserId: ToSql<Uuid, DB>,
    i64: ToSql<BigInt, DB>,
    &'static str: ToSql<Text, DB>,
    Timestamp: ToSql<Moment, DB>,
    for<'a> Option<&'a str>: ToSql<Nullable<Text>, DB>,
    Vec<u8>: ToSql<Binary, DB>,
{
    let tuple = |row: usize| {
        let first = row * COLUMNS.len() + 1;
        let parameters: Vec<_> = (first..first + COLUMNS.len())
            .map(|n| format!("${n}"))
            .collect();
        format!("({})", parameters.join(", "))
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
