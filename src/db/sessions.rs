//! Sessions: one row each, for their whole life.

pub(super) mod group;
mod rotate;

use diesel::{
    dsl::sql,
    expression::SqlLiteral,
    pg::Pg,
    prelude::*,
    sql_types::{BigInt, Binary, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use tokio::time::Instant;

pub use self::rotate::Rotation;
use super::{
    Db, Error, Pools,
    schema::{sessions, users},
    sql_types::{Moment, Uuid},
    with_conn,
};
use crate::model::{Session, SessionId, Timestamp, UserId};

/// How many rows housekeeping looks at in one statement.
const SWEEP_BATCH: i64 = 500;

/// A session to start.
#[derive(Insertable)]
#[diesel(table_name = sessions)]
pub struct NewSession<'a> {
    /// The new id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// SHA-256 of the token's handle.
    pub handle_hash: &'a [u8],
    /// SHA-256 of the token's secret.
    pub token_hash: &'a [u8],
    /// What the user calls it.
    pub device_name: Option<&'a str>,
    /// When.
    pub created_at: Timestamp,
    /// The sliding end.
    pub expires_at: Timestamp,
    /// The absolute end.
    pub ends_at: Timestamp,
}

impl NewSession<'_> {
    pub(super) fn row(
        &self,
    ) -> (
        &Self,
        diesel::dsl::Eq<sessions::generation, i64>,
        diesel::dsl::Eq<sessions::rotated_at, Timestamp>,
    ) {
        (
            self,
            sessions::generation.eq(1),
            sessions::rotated_at.eq(self.created_at),
        )
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(super) struct SessionRow {
    id: SessionId,
    user_id: UserId,
    token_hash: Vec<u8>,
    previous_token_hash: Option<Vec<u8>>,
    sealed_successor: Option<Vec<u8>>,
    rotated_at: Timestamp,
    expires_at: Timestamp,
    ends_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

type Columns = <SessionRow as Selectable<Pg>>::SelectExpression;

impl SessionRow {
    /// The columns that a statement written as SQL returns.
    fn columns() -> Columns {
        <Self as Selectable<Pg>>::construct_selection()
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            token_hash: row.token_hash,
            previous_token_hash: row.previous_token_hash,
            sealed_successor: row.sealed_successor,
            rotated_at: row.rotated_at,
            expires_at: row.expires_at,
            ends_at: row.ends_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// [`Session::is_live`], asked of the database.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn is_live(now: Timestamp) -> _ {
    sessions::revoked_at
        .is_null()
        .and(sessions::expires_at.gt(now))
        .and(sessions::ends_at.gt(now))
}

/// Of the user of a new session.
fn count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM sessions AS own \
          WHERE own.user_id = sessions.user_id AND own.revoked_at IS NULL)")
}

/// One step of housekeeping.
#[derive(Debug)]
pub struct Sweep<Position = SessionId> {
    /// How many rows were deleted.
    pub deleted: usize,
    /// Where the next step starts, if there is more.
    pub next: Option<Position>,
}

impl Db {
    /// Starts a session if the user still has the password that was set at `password`. Says
    /// how many sessions of the user have not been ended, or `None` if it did not.
    ///
    /// One statement. On Postgres it waits for whoever changes the user's row and then looks
    /// again; SQLite has one writer.
    pub async fn start_session(
        &self,
        session: &NewSession<'_>,
        password: Timestamp,
    ) -> Result<Option<i64>, Error> {
        let row = users::table
            .find(session.user_id)
            .filter(users::password_changed_at.eq(password))
            .select((
                session.id.into_sql::<Uuid>(),
                users::id,
                session.handle_hash.into_sql::<Binary>(),
                session.token_hash.into_sql::<Binary>(),
                1.into_sql::<BigInt>(),
                session.device_name.into_sql::<Nullable<Text>>(),
                session.created_at.into_sql::<Moment>(),
                session.created_at.into_sql::<Moment>(),
                session.expires_at.into_sql::<Moment>(),
                session.ends_at.into_sql::<Moment>(),
            ));
        let columns = (
            sessions::id,
            sessions::user_id,
            sessions::handle_hash,
            sessions::token_hash,
            sessions::generation,
            sessions::device_name,
            sessions::created_at,
            sessions::rotated_at,
            sessions::expires_at,
            sessions::ends_at,
        );
        let insert = diesel::insert_into(sessions::table);
        let deadline = Instant::now() + self.timeout;
        match &self.pools {
            Pools::Postgres(pool) => with_conn!(@ self, pool, deadline, conn => {
                let row = row.for_share();
                let insert = insert.values(row).into_columns(columns).returning(count());
                insert.get_result(conn).await.optional()?
            }),
            Pools::Sqlite(pool) => with_conn!(@ self, pool, deadline, conn => {
                let insert = insert.values(row).into_columns(columns).returning(count());
                insert.get_result(conn).await.optional()?
            }),
        }
    }

    /// Finds the session that a token's handle names.
    pub async fn find_session(&self, handle_hash: &[u8]) -> Result<Option<Session>, Error> {
        with_conn!(self, conn => {
            sessions::table
                .filter(sessions::handle_hash.eq(handle_hash))
                .select(SessionRow::as_select())
                .first(conn)
                .await
                .optional()?
                .map(Session::from)
        })
    }

    /// Looks at the next few sessions after `after`, oldest first, and deletes those that
    /// ended before `ended_before`.
    pub async fn sweep_sessions(
        &self,
        after: Option<SessionId>,
        ended_before: Timestamp,
    ) -> Result<Sweep, Error> {
        let after = after.unwrap_or(SessionId::from_bytes([0; 16]));
        with_conn!(self, conn => {
            let ids: Vec<SessionId> = sessions::table
                .filter(sessions::id.gt(after))
                .order(sessions::id)
                .limit(SWEEP_BATCH)
                .select(sessions::id)
                .load(conn)
                .await?;
            let Some(&last) = ids.last() else {
                return Ok(Sweep { deleted: 0, next: None });
            };
            let deleted = diesel::delete(sessions::table)
                .filter(sessions::id.gt(after))
                .filter(sessions::id.le(last))
                .filter(
                    sessions::revoked_at
                        .lt(ended_before)
                        .assume_not_null()
                        .or(sessions::expires_at.lt(ended_before))
                        .or(sessions::ends_at.lt(ended_before)),
                )
                .execute(conn)
                .await?;
            Sweep { deleted, next: Some(last) }
        })
    }
}
