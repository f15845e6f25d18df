//! The start of a session.

use diesel::{dsl::sql, expression::SqlLiteral, prelude::*, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error,
        revocations::Steps as _,
        schema::{sessions, users},
        transaction::transaction,
        with_conn,
    },
    model::{Act, DeviceName, MAX_SESSIONS, SessionEnd, SessionId, Timestamp, UserId},
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

/// The other sessions of a new session's user that have not been revoked.
fn others() -> SqlLiteral<BigInt> {
    sql(
        "(SELECT count(*) FROM sessions AS own WHERE own.user_id = sessions.user_id \
          AND own.id <> sessions.id AND own.revoked_at IS NULL)",
    )
}

impl Db {
    /// Starts a session if the user's password is still the one that was set at `password`, and
    /// ends the oldest ones of a user who then has more than [`MAX_SESSIONS`]. Returns the number
    /// of ended ones, or `None` if the password has changed or the user is gone.
    ///
    /// The lock on the user's row makes concurrent starts wait, so that each one counts the
    /// sessions of those before it.
    pub async fn start_session(
        &self,
        session: &NewSession,
        password: Timestamp,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<usize>, Error> {
        let generation = sessions::generation.eq(FIRST_GENERATION);
        let rotated_at = sessions::rotated_at.eq(session.created_at);
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let version: Option<i64> = diesel::update(users::table.find(session.user_id))
                    .filter(users::password_changed_at.eq(password))
                    .set(users::event_version.eq(users::event_version))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(version) = version else { return Ok(None) };
                let others: i64 = diesel::insert_into(sessions::table)
                    .values((session, generation, rotated_at))
                    .returning(others())
                    .get_result(conn)
                    .await?;
                if others < MAX_SESSIONS {
                    return Ok(Some(0));
                }
                let ended = conn.end_oldest(session, version, end, act).await?;
                Ok::<_, Error>(Some(ended))
            })
            .await?
        })
    }
}
