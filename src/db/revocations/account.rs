//! A new password, and the end of an account. Both need the password that the caller has shown
//! to be the account's still: another call may have changed it during the hash.

use std::iter;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Outcome, Undone, outcome, steps::Steps as _};
use crate::{
    db::{
        Db, Error,
        mail::Steps as _,
        schema::{sessions, users},
        sessions::{NextTokens, is_live, replaced},
        transaction::transaction,
        with_conn,
    },
    model::{Account, Event, SessionEnd, SessionId, StoredHash, Timestamp},
};

pub struct NewHash<'a> {
    pub hash: &'a StoredHash,
    pub changed_at: Timestamp,
    pub event: &'a Event,
}

impl Db {
    /// Sets a new password, gives the caller's own session new tokens, ends the other sessions,
    /// and returns their number. Mails that were asked for before are void.
    pub async fn change_password(
        &self,
        account: &Account,
        own: NextTokens,
        new: &NewHash<'_>,
        end: SessionEnd,
    ) -> Result<Outcome<usize>, Error> {
        let (user_id, act) = (account.user_id, &new.event.act);
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let version: i64 = diesel::update(users::table.find(user_id))
                    .filter(users::password_changed_at.eq(account.password_changed_at))
                    .set((
                        users::password_hash.eq(new.hash),
                        users::password_changed_at.eq(new.changed_at),
                    ))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::PasswordChanged)?;
                let replaced = diesel::update(sessions::table.find(own.id))
                    .filter(is_live(act.now))
                    .set(replaced(own))
                    .execute(conn)
                    .await?;
                if replaced == 0 {
                    return Err(Undone::SessionEnded);
                }
                let ended = conn.end_sessions(user_id, Some(own.id), end, act).await?;
                conn.void_mails(user_id, None).await?;
                let events: Vec<_> = iter::once(new.event).chain(&ended).collect();
                conn.write_events(user_id, version, &events).await?;
                Ok(ended.len())
            });
            outcome(done.await)?
        })
    }

    /// Deletes the account with its sessions. The event is the user's last one, after those of
    /// the sessions that were not revoked.
    pub async fn delete_account(
        &self,
        account: &Account,
        own: SessionId,
        event: &Event,
        end: SessionEnd,
    ) -> Result<Outcome<()>, Error> {
        let (user_id, act) = (account.user_id, &event.act);
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let version: i64 = diesel::update(users::table.find(user_id))
                    .filter(users::password_changed_at.eq(account.password_changed_at))
                    .set(users::event_version.eq(users::event_version))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::PasswordChanged)?;
                conn.require_live(own, act.now).await?;
                conn.erase(version, end, event).await?;
                Ok(())
            });
            outcome(done.await)?
        })
    }
}
