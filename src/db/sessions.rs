//! Sessions: one row each, for their whole life.

mod rotate;
mod start;

use diesel::{pg::Pg, prelude::*};
use diesel_async::RunQueryDsl;

pub use self::{rotate::Rotation, start::NewSession};
pub(super) use self::{rotate::batch::Batches, start::NewSessionRow};
use super::{Db, Error, schema::sessions, with_conn};
use crate::model::{Session, SessionId, Timestamp, UserId};

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
                .select(SessionRow::as_select())
                .first(conn)
                .await
                .optional()?
                .map(Session::from)
        })
    }
}
