//! The beginning and the end of a suspension.

use std::iter;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error,
        revocations::Steps as _,
        schema::{mail_requests, users},
        transaction::transaction,
        with_conn,
    },
    model::{Event, MailPurpose, SessionEnd, Suspension, Timestamp, User},
};

impl Db {
    /// Suspends an account, ends its sessions, and makes its open resets and changes of the address
    /// void. Returns the number of
    /// ended sessions, or `None` if the user is unknown. A suspension that is in force keeps its
    /// beginning.
    pub async fn suspend_user(
        &self,
        suspension: &Suspension,
        event: &Event,
        end: SessionEnd,
    ) -> Result<Option<usize>, Error> {
        let (user_id, act) = (event.user_id, &event.act);
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(None) };
                let user: User = users::table
                    .find(user_id)
                    .select(User::as_select())
                    .first(conn)
                    .await?;
                let before = user.suspension_in_force(act.now);
                diesel::update(users::table.find(user_id))
                    .set((
                        users::suspended_at.eq(before.map_or(suspension.since, |it| it.since)),
                        users::suspended_until.eq(suspension.until),
                        users::suspension_reason.eq(&suspension.reason),
                    ))
                    .execute(conn)
                    .await?;
                diesel::delete(mail_requests::table)
                    .filter(mail_requests::user_id.eq(user_id))
                    .filter(mail_requests::purpose.eq_any(MailPurpose::ENDS_WITH_SUSPENSION))
                    .execute(conn)
                    .await?;
                let ended = conn.end_sessions(user_id, None, end, act).await?;
                let events: Vec<_> = iter::once(event).chain(&ended).collect();
                conn.write_events(user_id, version, &events).await?;
                Ok::<_, Error>(Some(ended.len()))
            })
            .await?
        })
    }

    /// Ends a suspension. Returns whether one was in force, and `None` if the user is unknown. The
    /// event is written only if one was.
    pub async fn restore_user(&self, event: &Event) -> Result<Option<bool>, Error> {
        let user_id = event.user_id;
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(None) };
                let user: User = users::table
                    .find(user_id)
                    .select(User::as_select())
                    .first(conn)
                    .await?;
                let was_suspended = user.suspension_in_force(event.act.now).is_some();
                let (never, nothing) = (None::<Timestamp>, None::<&str>);
                diesel::update(users::table.find(user_id))
                    .set((
                        users::suspended_at.eq(never),
                        users::suspended_until.eq(never),
                        users::suspension_reason.eq(nothing),
                    ))
                    .execute(conn)
                    .await?;
                if was_suspended {
                    conn.write_events(user_id, version, &[event]).await?;
                }
                Ok::<_, Error>(Some(was_suspended))
            })
            .await?
        })
    }
}
