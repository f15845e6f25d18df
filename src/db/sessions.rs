//! Sessions: one row each, for their whole life.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::{
    Db, Error,
    outbox::NewEvent,
    schema::{outbox_events, sessions, users},
    with_conn,
};
use crate::{
    clock::Timestamp,
    id::{SessionId, UserId},
};

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

/// One exchange of a refresh token.
pub struct Exchange<'a> {
    /// SHA-256 of the presented token's handle.
    pub handle_hash: &'a [u8],
    /// SHA-256 of the presented token's secret.
    pub token_hash: &'a [u8],
    /// SHA-256 of the next secret.
    pub new_token_hash: &'a [u8],
    /// The next secret, sealed with the presented one.
    pub sealed_successor: &'a [u8],
    /// When.
    pub now: Timestamp,
    /// The new sliding end.
    pub expires_at: Timestamp,
}

/// A session as it stands.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// SHA-256 of the current token's secret.
    pub token_hash: Vec<u8>,
    /// SHA-256 of the secret before.
    pub previous_token_hash: Option<Vec<u8>>,
    /// The current secret, sealed with the one before.
    pub sealed_successor: Option<Vec<u8>>,
    /// When the token was exchanged last, or the start.
    pub rotated_at: Timestamp,
    /// The sliding end.
    pub expires_at: Timestamp,
    /// The absolute end.
    pub ends_at: Timestamp,
    /// When it was ended early.
    pub revoked_at: Option<Timestamp>,
}

impl Session {
    /// Whether it has neither expired nor been ended.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at && now < self.ends_at
    }
}

/// One step of housekeeping.
#[derive(Debug)]
pub struct Sweep {
    /// How many sessions were deleted.
    pub deleted: usize,
    /// Where the next step starts, if there is more.
    pub next: Option<SessionId>,
}

impl Db {
    /// Starts a session.
    pub async fn start_session(&self, session: &NewSession<'_>) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::insert_into(sessions::table)
                .values(session.row())
                .execute(conn)
                .await?;
        })
    }

    /// Exchanges the token, if it is the current one of a live session: one statement,
    /// compare-and-set, so that of many concurrent exchanges exactly one succeeds.
    pub async fn exchange_token(&self, exchange: &Exchange<'_>) -> Result<Option<Session>, Error> {
        with_conn!(self, conn => {
            diesel::update(sessions::table)
                .filter(sessions::handle_hash.eq(exchange.handle_hash))
                .filter(sessions::token_hash.eq(exchange.token_hash))
                .filter(sessions::revoked_at.is_null())
                .filter(sessions::expires_at.gt(exchange.now))
                .filter(sessions::ends_at.gt(exchange.now))
                .set((
                    sessions::previous_token_hash.eq(sessions::token_hash.nullable()),
                    sessions::token_hash.eq(exchange.new_token_hash),
                    sessions::sealed_successor.eq(exchange.sealed_successor),
                    sessions::generation.eq(sessions::generation + 1),
                    sessions::rotated_at.eq(exchange.now),
                    sessions::expires_at.eq(exchange.expires_at),
                ))
                .returning(Session::as_returning())
                .get_result(conn)
                .await
                .optional()?
        })
    }

    /// Finds the session that a token's handle names.
    pub async fn find_session(&self, handle_hash: &[u8]) -> Result<Option<Session>, Error> {
        with_conn!(self, conn => {
            sessions::table
                .filter(sessions::handle_hash.eq(handle_hash))
                .select(Session::as_select())
                .first(conn)
                .await
                .optional()?
        })
    }

    /// Ends a live session and writes the event. Does nothing, and writes none, if it has
    /// ended already. Says whether this call ended it.
    pub async fn end_session(
        &self,
        id: SessionId,
        reason: &str,
        now: Timestamp,
        event: &NewEvent,
    ) -> Result<bool, Error> {
        with_conn!(self, conn => {
            conn.transaction(async |conn| {
                let user_id: Option<UserId> = diesel::update(sessions::table.find(id))
                    .filter(sessions::revoked_at.is_null())
                    .filter(sessions::expires_at.gt(now))
                    .filter(sessions::ends_at.gt(now))
                    .set((
                        sessions::revoked_at.eq(now),
                        sessions::revoke_reason.eq(reason),
                    ))
                    .returning(sessions::user_id)
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(user_id) = user_id else {
                    return Ok(false);
                };
                let version: i64 = diesel::update(users::table.find(user_id))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await?;
                diesel::insert_into(outbox_events::table)
                    .values(event.versioned(version))
                    .execute(conn)
                    .await?;
                Ok::<_, Error>(true)
            })
            .await?
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
