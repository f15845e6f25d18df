//! Accounts and sessions as signed-in users see them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Db, Error,
    schema::{sessions, users},
    sessions::{SessionRow, is_live},
    with_conn,
};
use crate::model::{
    Account, LiveSession, MAX_LISTED_SESSIONS, Session, SessionId, Timestamp, UserId,
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct AccountRow {
    id: UserId,
    email: String,
    created_at: Timestamp,
    password_changed_at: Timestamp,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            user_id: row.id,
            email: row.email,
            created_at: row.created_at,
            password_changed_at: row.password_changed_at,
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
struct LiveSessionRow {
    id: SessionId,
    device_name: Option<String>,
    created_at: Timestamp,
    rotated_at: Timestamp,
    expires_at: Timestamp,
    ends_at: Timestamp,
}

impl From<LiveSessionRow> for LiveSession {
    fn from(row: LiveSessionRow) -> Self {
        Self {
            id: row.id,
            device_name: row.device_name,
            created_at: row.created_at,
            rotated_at: row.rotated_at,
            expires_at: row.expires_at.min(row.ends_at),
        }
    }
}

impl Db {
    /// Finds the account of a live session of this user.
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
                .select(AccountRow::as_select())
                .first(conn)
                .await
                .optional()?
                .map(Account::from)
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
                .limit(MAX_LISTED_SESSIONS)
                .select(LiveSessionRow::as_select())
                .load(conn)
                .await?
                .into_iter()
                .map(LiveSession::from)
                .collect()
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
                .select(SessionRow::as_select())
                .first(conn)
                .await
                .optional()?
                .map(Session::from)
        })
    }
}
