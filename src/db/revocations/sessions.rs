//! Ending one session, or all others.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Outcome, Undone, outcome,
    steps::{EndedSession, Steps as _, ended},
};
use crate::{
    db::{
        Db, Error,
        outbox::insert_event,
        schema::{sessions, users},
        transaction::transaction,
        with_conn,
    },
    model::{Act, Event, SessionEnd, SessionId, UserId},
};

impl Db {
    /// Ends a session and returns the event. Does nothing if it was revoked before.
    pub async fn end_session(
        &self,
        user_id: UserId,
        id: SessionId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<Event>, Error> {
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let version: i64 = diesel::update(users::table.find(user_id))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::SessionEnded)?;
                let session: EndedSession = diesel::update(sessions::table.find(id))
                    .filter(sessions::user_id.eq(user_id))
                    .filter(sessions::revoked_at.is_null())
                    .set(ended(act.now, end.reason))
                    .returning(EndedSession::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::SessionEnded)?;
                conn.revoke(&[session.revocation(end, act)], act.now).await?;
                let event = session.event(end, act);
                insert_event(&event, version).execute(conn).await?;
                Ok(event)
            });
            match outcome(done.await)? {
                Outcome::Done(event) => Some(event),
                Outcome::PasswordChanged | Outcome::SessionEnded => None,
            }
        })
    }

    /// Ends a user's sessions except the caller's own, and returns their number.
    pub async fn end_other_sessions(
        &self,
        user_id: UserId,
        own: SessionId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Outcome<usize>, Error> {
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let version = conn.lock_user(user_id).await?.ok_or(Undone::SessionEnded)?;
                conn.require_live(own, act.now).await?;
                let events = conn.end_sessions(user_id, Some(own), end, act).await?;
                let events: Vec<_> = events.iter().collect();
                conn.write_events(user_id, version, &events).await?;
                Ok(events.len())
            });
            outcome(done.await)?
        })
    }
}
