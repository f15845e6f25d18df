//! Accounts and sessions, as signed-in users see them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Db, Error,
    schema::{sessions, users},
    sessions::{Session, is_live},
    with_conn,
};
use crate::{
    clock::Timestamp,
    id::{SessionId, UserId},
};

/// How many sessions are listed. One takes at most 500 bytes of a message of 64 KiB.
const MOST_LISTED: i64 = 100;

/// An account as it stands.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct Account {
    /// Its id.
    #[diesel(column_name = id)]
    pub user_id: UserId,
    /// The normalised address.
    pub email: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the password was set: no two passwords of an account have the same.
    pub password_changed_at: Timestamp,
}

/// A live session as its user sees it.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// What the user calls it.
    pub device_name: Option<String>,
    /// When it started.
    pub created_at: Timestamp,
    /// When its token was exchanged last, or the start.
    pub rotated_at: Timestamp,
    /// The sliding end.
    pub expires_at: Timestamp,
    /// The absolute end.
    pub ends_at: Timestamp,
}

impl Db {
    /// Finds the account of a session, if that lives and is this user's.
    pub async fn find_account(
        &self,
        user_id: UserId,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<Option<Account>, Error> {
        with_conn!(self, conn => {
            users::table
                .inner_join(sessions::table)
                .filter(users::id.eq(user_id))
                .filter(sessions::id.eq(session_id))
                .filter(is_live(now))
                .select(Account::as_select())
                .first(conn)
                .await
                .optional()?
        })
    }

    /// A user's live sessions: `first`, then the newest.
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
                .limit(MOST_LISTED)
                .select(LiveSession::as_select())
                .load(conn)
                .await?
        })
    }

    /// Finds a session of this user by its id.
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
}
