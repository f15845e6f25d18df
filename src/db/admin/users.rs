//! Finding, listing and deleting accounts.

use std::collections::HashMap;

use diesel::{dsl::count_star, prelude::*};
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error,
        revocations::Steps as _,
        schema::{sessions, users},
        sessions::is_live,
        transaction::transaction,
        with_conn,
    },
    model::{CountedUser, Event, SessionEnd, Timestamp, User, UserId},
};

impl Db {
    pub async fn find_user(
        &self,
        id: UserId,
        now: Timestamp,
    ) -> Result<Option<CountedUser>, Error> {
        with_conn!(self, conn => {
            let user: Option<User> = users::table
                .find(id)
                .select(User::as_select())
                .first(conn)
                .await
                .optional()?;
            let Some(user) = user else { return Ok(None) };
            let live = sessions::table.filter(sessions::user_id.eq(id)).filter(is_live(now));
            let count: i64 = live.count().get_result(conn).await?;
            Some(CountedUser { user, sessions: size(count) })
        })
    }

    /// Finds the id of the account with this normalised address.
    pub async fn find_user_id(&self, email: &str) -> Result<Option<UserId>, Error> {
        with_conn!(self, conn => {
            users::table
                .filter(users::email.eq(email))
                .select(users::id)
                .first(conn)
                .await
                .optional()?
        })
    }

    /// The accounts after this one, in the order of their ids.
    pub async fn users_after(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, Error> {
        let after = after.unwrap_or(UserId::from_bytes([0; 16]));
        with_conn!(self, conn => {
            users::table
                .filter(users::id.gt(after))
                .order(users::id)
                .limit(limit.into())
                .select(User::as_select())
                .load(conn)
                .await?
        })
    }

    /// Like [`Self::users_after`], with the numbers of live sessions.
    pub async fn list_users(
        &self,
        after: Option<UserId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<CountedUser>, Error> {
        let found = self.users_after(after, limit).await?;
        let ends = match found.as_slice() {
            [] => return Ok(Vec::new()),
            [first, .., last] => (first.id, last.id),
            [only] => (only.id, only.id),
        };
        let counts: Vec<(UserId, i64)> = with_conn!(self, conn => {
            sessions::table
                .filter(sessions::user_id.between(ends.0, ends.1))
                .filter(is_live(now))
                .group_by(sessions::user_id)
                .select((sessions::user_id, count_star()))
                .load(conn)
                .await?
        })?;
        let counts: HashMap<_, _> = counts.into_iter().collect();
        let counted = found.into_iter().map(|user| {
            let sessions = counts.get(&user.id).map_or(0, |count| size(*count));
            CountedUser { user, sessions }
        });
        Ok(counted.collect())
    }

    /// Deletes an account with its sessions: see [`Db::delete_account`]. `None` if it is unknown.
    pub async fn delete_user(&self, event: &Event, end: SessionEnd) -> Result<Option<()>, Error> {
        let user_id = event.user_id;
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(None) };
                conn.erase(version, end, event).await?;
                Ok::<_, Error>(Some(()))
            })
            .await?
        })
    }
}

fn size(count: i64) -> usize {
    usize::try_from(count).unwrap_or_default()
}
