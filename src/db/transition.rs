//! When a [`Transition`] ends. It is deleted with it.

use diesel::{
    dsl::{exists, select, sql},
    prelude::*,
    sql_types::Nullable,
};
use diesel_async::RunQueryDsl;

use super::{
    Db, Error,
    schema::{transitions, users},
    sql_types::Moment,
    with_conn,
};
use crate::model::{Timestamp, Transition};

/// The name of the row.
const DATA_KEY: &str = "data key";

impl Db {
    /// When the roll-out ends, by the clock that says `now`. `None` if the database had no
    /// account when the first replica of this release started. That start begins the roll-out.
    pub async fn transition_ends_at(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if let Some(found) = self.find_transition(now).await? {
            return Ok(found);
        }
        let ends_at = format!(
            "CASE WHEN EXISTS (SELECT 1 FROM users) THEN {} END",
            self.sql_now_and(Transition::LONGEST)
        );
        with_conn!(self, conn => {
            diesel::insert_into(transitions::table)
                .values((
                    transitions::name.eq(DATA_KEY),
                    transitions::ends_at.eq(sql::<Nullable<Moment>>(&ends_at)),
                ))
                .on_conflict(transitions::name)
                .do_nothing()
                .execute(conn)
                .await?;
        })?;
        Ok(self.find_transition(now).await?.flatten())
    }

    /// Whether there are accounts, and no replica of this release has started: then only replicas
    /// of the release before serve them.
    pub async fn is_roll_out_ahead(&self, now: Timestamp) -> Result<bool, Error> {
        if self.find_transition(now).await?.is_some() {
            return Ok(false);
        }
        with_conn!(self, conn => {
            select(exists(users::table.select(users::id))).get_result(conn).await?
        })
    }

    /// The outer `None`: no replica of this release has started.
    async fn find_transition(&self, now: Timestamp) -> Result<Option<Option<Timestamp>>, Error> {
        let sql_now = self.sql_now();
        let found: Option<(Timestamp, Option<Timestamp>)> = with_conn!(self, conn => {
            transitions::table
                .find(DATA_KEY)
                .select((sql::<Moment>(sql_now), transitions::ends_at))
                .first(conn)
                .await
                .optional()?
        })?;
        // A time span, so that the clocks may differ.
        let by_our_clock = |(their_now, ends_at): (Timestamp, Option<Timestamp>)| {
            let micros =
                |ends_at: Timestamp| ends_at.as_micros().saturating_sub(their_now.as_micros());
            ends_at.map(|at| Timestamp::from_micros(now.as_micros().saturating_add(micros(at))))
        };
        Ok(found.map(by_our_clock))
    }
}
