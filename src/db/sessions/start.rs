//! The start of a session.

use diesel::{
    dsl::sql,
    expression::SqlLiteral,
    prelude::*,
    sql_types::{BigInt, Binary, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use tokio::time::Instant;

use crate::{
    db::{
        Db, Error, Pools,
        schema::{sessions, users},
        sql_types::{Moment, Uuid},
        with_conn,
    },
    model::{DeviceName, SessionId, Timestamp, UserId},
};

pub(in crate::db) const FIRST_GENERATION: i64 = 1;

#[derive(Insertable)]
#[diesel(table_name = sessions)]
pub struct NewSession {
    pub id: SessionId,
    pub user_id: UserId,
    /// SHA-256 of the token's handle.
    pub handle_hash: [u8; 32],
    /// SHA-256 of the token's secret.
    pub token_hash: [u8; 32],
    pub device_name: Option<DeviceName>,
    pub created_at: Timestamp,
    /// The sliding end.
    pub expires_at: Timestamp,
    /// The absolute end.
    pub ends_at: Timestamp,
    /// When the first access token expires.
    pub access_tokens_expire_at: Timestamp,
}

/// The sessions of a new session's user that have not been revoked.
fn count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM sessions AS own \
          WHERE own.user_id = sessions.user_id AND own.revoked_at IS NULL)")
}

impl Db {
    /// Starts a session if the user's password is still the one that was set at `password`.
    /// Returns how many sessions of the user have not been revoked, or `None` if the password
    /// has changed or the user is gone.
    ///
    /// One statement. On Postgres it waits for a transaction that changes the user's row and
    /// then reads the row again; SQLite has one writer.
    pub async fn start_session(
        &self,
        session: &NewSession,
        password: Timestamp,
    ) -> Result<Option<i64>, Error> {
        let row = users::table
            .find(session.user_id)
            .filter(users::password_changed_at.eq(password))
            .select((
                session.id.into_sql::<Uuid>(),
                users::id,
                session.handle_hash.as_slice().into_sql::<Binary>(),
                session.token_hash.as_slice().into_sql::<Binary>(),
                FIRST_GENERATION.into_sql::<BigInt>(),
                session.device_name.as_ref().into_sql::<Nullable<Text>>(),
                session.created_at.into_sql::<Moment>(),
                session.created_at.into_sql::<Moment>(),
                session.expires_at.into_sql::<Moment>(),
                session.ends_at.into_sql::<Moment>(),
                session
                    .access_tokens_expire_at
                    .into_sql::<Nullable<Moment>>(),
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
            sessions::access_tokens_expire_at,
        );
        let insert = diesel::insert_into(sessions::table);
        let deadline = Instant::now() + self.timeout;
        match &self.pools {
            Pools::Postgres(pool) => with_conn!(@ self, pool, deadline, conn => {
                let insert = insert.values(row.for_share()).into_columns(columns);
                insert.returning(count()).get_result(conn).await.optional()?
            }),
            Pools::Sqlite(pool) => with_conn!(@ self, pool, deadline, conn => {
                let insert = insert.values(row).into_columns(columns);
                insert.returning(count()).get_result(conn).await.optional()?
            }),
        }
    }
}
