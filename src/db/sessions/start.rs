//! The start of a session.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, Binary, HasSqlType, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use tracing::warn;

use crate::{
    db::{
        Db, Error, Pools,
        outbox::insert_event,
        revocations::Steps as _,
        schema::{sessions, users},
        sql_types::{Moment, Uuid},
        transaction::transaction,
        users::is_not_suspended,
        with_conn,
    },
    model::{Act, DeviceName, Event, MAX_SESSIONS, SessionEnd, SessionId, Timestamp, UserId},
    telemetry::{Causes, LIMITED},
};

pub(in crate::db) const FIRST_GENERATION: i64 = 1;

/// From so many other sessions on, a start makes sure that the user has not too many. The number
/// lacks the sessions of logins that wait for the user's row at the same moment: if more than
/// this number wait, the user can have more than the maximum until the next login.
const MANY_SESSIONS: i64 = MAX_SESSIONS / 2;

#[derive(Clone, Insertable)]
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
    /// Its event, if the start of a session has one.
    #[diesel(skip_insertion)]
    pub event: Option<Event>,
}

impl Db {
    /// Starts a session if the user's password is still the one that was set at `password` and the
    /// user is not suspended, and ends the oldest ones of a user who then has more than
    /// [`MAX_SESSIONS`]. Returns the number of ended ones, or `None` if the password has changed or
    /// the user is suspended or gone. The session that has started is good even if the others
    /// cannot be ended now.
    pub async fn start_session(
        &self,
        session: &NewSession,
        password: Timestamp,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<usize>, Error> {
        let statement = Start {
            session: session.clone(),
            password,
            lock: match self.pools {
                Pools::Postgres(_) => " FOR NO KEY UPDATE",
                // It has one writer.
                Pools::Sqlite(_) => "",
            },
        };
        let others: Option<i64> = with_conn!(self, conn => {
            match &session.event {
                // Without a transaction around it, a login costs one round trip to the database
                // less for each of BEGIN and COMMIT.
                None => (&statement).get_result(conn).await.optional()?,
                Some(event) => {
                    transaction(conn, async |conn| {
                        let version: Option<i64> = diesel::update(users::table.find(session.user_id))
                            .filter(users::password_changed_at.eq(password))
                            .filter(is_not_suspended(session.created_at))
                            .set(users::event_version.eq(users::event_version + 1))
                            .returning(users::event_version)
                            .get_result(conn)
                            .await
                            .optional()?;
                        let Some(version) = version else { return Ok(None) };
                        insert_event(event, version).execute(conn).await?;
                        Ok::<_, Error>((&statement).get_result(conn).await.optional()?)
                    })
                    .await?
                }
            }
        })?;
        match others {
            Some(others) if others >= MANY_SESSIONS => {
                let ended = self.end_oldest_sessions(session, end, act).await;
                Ok(Some(ended.unwrap_or_else(|error| {
                    let (user_id, error) = (session.user_id, Causes(&error));
                    warn!(name: LIMITED, %user_id, %error, "a user may have too many sessions until the next login");
                    0
                })))
            }
            others => Ok(others.map(|_| 0)),
        }
    }

    /// The lock on the user's row makes concurrent calls wait, so that each one counts the
    /// sessions that the others left.
    async fn end_oldest_sessions(
        &self,
        started: &NewSession,
        end: SessionEnd,
        act: &Act,
    ) -> Result<usize, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(started.user_id).await? else { return Ok(0) };
                let ended = conn.end_oldest(started, version, end, act).await?;
                Ok::<_, Error>(ended)
            })
            .await?
        })
    }
}

/// Inserts the session if the password is still the same and the user is not suspended, and returns how many other sessions of
/// the user have not been revoked.
///
/// The lock makes it wait for an act that changes the user's row; then the condition is checked
/// against the new row (READ COMMITTED).
#[derive(QueryId)]
struct Start {
    session: NewSession,
    password: Timestamp,
    lock: &'static str,
}

impl<DB> QueryFragment<DB> for Start
where
    DB: Backend + HasSqlType<Moment> + HasSqlType<Uuid>,
    SessionId: ToSql<Uuid, DB>,
    UserId: ToSql<Uuid, DB>,
    [u8; 32]: ToSql<Binary, DB>,
    Option<DeviceName>: ToSql<Nullable<Text>, DB>,
    i64: ToSql<BigInt, DB>,
    Timestamp: ToSql<Moment, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let session = &self.session;
        out.push_sql(
            "INSERT INTO sessions (id, handle_hash, token_hash, device_name, generation, \
             created_at, rotated_at, expires_at, ends_at, access_tokens_expire_at, user_id) SELECT ",
        );
        out.push_bind_param::<Uuid, _>(&session.id)?;
        out.push_sql(", ");
        out.push_bind_param::<Binary, _>(&session.handle_hash)?;
        out.push_sql(", ");
        out.push_bind_param::<Binary, _>(&session.token_hash)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, _>(&session.device_name)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&FIRST_GENERATION)?;
        for time in [
            &session.created_at,
            &session.created_at,
            &session.expires_at,
            &session.ends_at,
            &session.access_tokens_expire_at,
        ] {
            out.push_sql(", ");
            out.push_bind_param::<Moment, _>(time)?;
        }
        out.push_sql(", id FROM users WHERE id = ");
        out.push_bind_param::<Uuid, _>(&session.user_id)?;
        out.push_sql(" AND password_changed_at = ");
        out.push_bind_param::<Moment, _>(&self.password)?;
        out.push_sql(" AND (suspended_at IS NULL OR suspended_until <= ");
        out.push_bind_param::<Moment, _>(&session.created_at)?;
        out.push_sql(")");
        out.push_sql(self.lock);
        out.push_sql(
            " RETURNING (SELECT count(*) FROM sessions AS own \
             WHERE own.user_id = sessions.user_id AND own.id <> sessions.id \
             AND own.revoked_at IS NULL)",
        );
        Ok(())
    }
}

impl Query for Start {
    type SqlType = BigInt;
}
