//! Sessions: one row each, for their whole life.

mod replace;
mod rotate;
mod start;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

pub use self::{replace::NextTokens, rotate::Rotation, start::NewSession};
pub(super) use self::{replace::replaced, rotate::batch::Batches, start::FIRST_GENERATION};
use super::{
    Db, Error,
    schema::{sessions, users},
    users::is_not_suspended,
    with_conn,
};
use crate::model::{
    AccountClaims, LiveSession, MAX_SESSIONS, Refreshable, Roles, Session, SessionId, Timestamp,
    UserId,
};

/// [`Session::is_live`] in SQL.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn is_live(now: Timestamp) -> _ {
    sessions::revoked_at
        .is_null()
        .and(sessions::expires_at.gt(now))
        .and(sessions::ends_at.gt(now))
}

impl Db {
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

    /// Like `find_session`, with what access tokens say about the account.
    pub async fn find_refreshable(
        &self,
        handle_hash: &[u8],
        now: Timestamp,
    ) -> Result<Option<Refreshable>, Error> {
        let found: Option<(Session, bool, String, Option<bool>)> = with_conn!(self, conn => {
            sessions::table
                .inner_join(users::table)
                .filter(sessions::handle_hash.eq(handle_hash))
                .select((
                    Session::as_select(),
                    users::email_verified_at.is_not_null(),
                    users::roles,
                    is_not_suspended(now),
                ))
                .first(conn)
                .await
                .optional()?
        })?;
        Ok(
            found.map(|(session, email_verified, roles, is_not_suspended)| {
                let roles = Roles::from_stored(roles);
                let claims = AccountClaims {
                    email_verified,
                    roles,
                };
                let is_suspended = is_not_suspended != Some(true);
                Refreshable {
                    session,
                    claims,
                    is_suspended,
                }
            }),
        )
    }

    pub async fn find_own_session(
        &self,
        user_id: UserId,
        id: SessionId,
    ) -> Result<Option<Session>, Error> {
        with_conn!(self, conn => {
            sessions::table
                .find(id)
                .filter(sessions::user_id.eq(user_id))
                .select(Session::as_select())
                .first(conn)
                .await
                .optional()?
        })
    }

    /// A user's live sessions: `first`, then the others, newest first.
    pub async fn live_sessions(
        &self,
        user_id: UserId,
        first: SessionId,
        now: Timestamp,
    ) -> Result<Vec<LiveSession>, Error> {
        with_conn!(self, conn => {
            sessions::table
                .filter(sessions::user_id.eq(user_id))
                .filter(is_live(now))
                .order((
                    sessions::id.eq(first).desc(),
                    sessions::created_at.desc(),
                    sessions::id.desc(),
                ))
                .limit(MAX_SESSIONS)
                .select(LiveSession::as_select())
                .load(conn)
                .await?
        })
    }
}
