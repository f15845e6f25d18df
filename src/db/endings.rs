//! What ends sessions: a logout, reuse, the user, another password, the end of the account.
//! Each with its events, in one transaction.
//!
//! All of them update the user's row first, and then the rows of sessions. With the user's
//! row in hand nobody else ends a session of that user or starts one, so that what is
//! decided then holds until the commit.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::{
    Db, Error,
    outbox::{EventRow, insert_events},
    schema::{outbox_events, sessions, users},
    sessions::is_live,
    with_conn,
};
use crate::model::{Account, Act, Event, SessionEnd, SessionId, Timestamp, UserId};

/// How many events are written in one statement: SQLite allows 32766 parameters.
const EVENTS_AT_ONCE: usize = 1000;

/// How many sessions a login ends at most.
const MOST_ENDED: i64 = 100;

/// A session that an act ended.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
struct EndedSession {
    id: SessionId,
    user_id: UserId,
    rotated_at: Timestamp,
}

impl EndedSession {
    fn event(&self, end: SessionEnd, act: &Act) -> Event {
        Event::new(self.user_id, end.of(self.id, self.rotated_at, act), act)
    }
}

/// A password to set.
pub struct NewHash<'a> {
    /// The bcrypt string.
    pub hash: &'a str,
    /// When.
    pub changed_at: Timestamp,
    /// The event that says so.
    pub event: &'a Event,
}

/// What became of an act on an account.
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// Nothing: the account is gone, or has another password than the caller has shown.
    PasswordChanged,
    /// Nothing: the caller's session has ended.
    SessionEnded,
}

/// Why a transaction was undone.
enum Undone {
    PasswordChanged,
    SessionEnded,
    Failed(Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

fn outcome<T>(result: Result<T, Undone>) -> Result<Outcome<T>, Error> {
    match result {
        Ok(done) => Ok(Outcome::Done(done)),
        Err(Undone::PasswordChanged) => Ok(Outcome::PasswordChanged),
        Err(Undone::SessionEnded) => Ok(Outcome::SessionEnded),
        Err(Undone::Failed(error)) => Err(error),
    }
}

/// Gives up unless the caller's session still lives.
macro_rules! insist_on_session {
    ($conn:ident, $session_id:expr, $now:expr) => {
        let alive: i64 = sessions::table
            .find($session_id)
            .filter(is_live($now))
            .count()
            .get_result($conn)
            .await?;
        if alive == 0 {
            return Err(Undone::SessionEnded);
        }
    };
}

/// Ends the user's sessions but the caller's own, and returns them, oldest first.
macro_rules! end_others {
    ($conn:ident, $user_id:expr, $own:expr, $now:expr, $reason:expr) => {{
        insist_on_session!($conn, $own, $now);
        let mut ended: Vec<EndedSession> = diesel::update(sessions::table)
            .filter(sessions::user_id.eq($user_id))
            .filter(sessions::id.ne($own))
            .filter(is_live($now))
            .set((
                sessions::revoked_at.eq($now),
                sessions::revoke_reason.eq($reason),
            ))
            .returning(EndedSession::as_returning())
            .get_results($conn)
            .await?;
        ended.sort_by_key(|session| session.id);
        ended
    }};
}

/// Writes the next events of a user whose last one has `$version`.
macro_rules! write_events {
    ($conn:ident, $user_id:expr, $version:expr, $events:expr) => {
        let events: Vec<&Event> = $events.collect();
        if !events.is_empty() {
            let count = i64::try_from(events.len()).expect("memory is smaller");
            diesel::update(users::table.find($user_id))
                .set(users::event_version.eq(users::event_version + count))
                .execute($conn)
                .await?;
        }
        let mut versions = $version + 1..;
        for events in events.chunks(EVENTS_AT_ONCE) {
            let rows = events.iter().zip(&mut versions);
            let rows = rows.map(|(event, version)| EventRow::new(event, version));
            insert_events(rows.collect()).execute($conn).await?;
        }
    };
}

impl Db {
    /// Ends a session if it lives, writes the event and returns it. Does nothing if it has
    /// ended already.
    pub async fn end_session(
        &self,
        user_id: UserId,
        id: SessionId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<Event>, Error> {
        let (now, reason) = (act.now, end.reason.as_str());
        with_conn!(self, conn => {
            let done = conn.transaction(async |conn| {
                let version: i64 = diesel::update(users::table.find(user_id))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::SessionEnded)?;
                let ended: EndedSession = diesel::update(sessions::table.find(id))
                    .filter(sessions::user_id.eq(user_id))
                    .filter(is_live(now))
                    .set((
                        sessions::revoked_at.eq(now),
                        sessions::revoke_reason.eq(reason),
                    ))
                    .returning(EndedSession::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::SessionEnded)?;
                let event = ended.event(end, act);
                diesel::insert_into(outbox_events::table)
                    .values(EventRow::new(&event, version))
                    .execute(conn)
                    .await?;
                Ok(event)
            });
            match outcome(done.await)? {
                Outcome::Done(event) => Some(event),
                Outcome::PasswordChanged | Outcome::SessionEnded => None,
            }
        })
    }

    /// Ends a user's sessions but the caller's own, with their events. Says how many.
    pub async fn end_other_sessions(
        &self,
        user_id: UserId,
        own: SessionId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Outcome<usize>, Error> {
        let (now, reason) = (act.now, end.reason.as_str());
        with_conn!(self, conn => {
            let done = conn.transaction(async |conn| {
                let version: i64 = diesel::update(users::table.find(user_id))
                    .set(users::event_version.eq(users::event_version))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::SessionEnded)?;
                let ended = end_others!(conn, user_id, own, now, reason);
                let events: Vec<_> = ended.iter().map(|ended| ended.event(end, act)).collect();
                write_events!(conn, user_id, version, events.iter());
                Ok(ended.len())
            });
            outcome(done.await)?
        })
    }

    /// Ends a user's sessions but the newest, with their events; not all of very many.
    pub async fn end_oldest_sessions(
        &self,
        user_id: UserId,
        kept: i64,
        end: SessionEnd,
        act: &Act,
    ) -> Result<usize, Error> {
        let (now, reason) = (act.now, end.reason.as_str());
        with_conn!(self, conn => {
            conn.transaction(async |conn| {
                let version: Option<i64> = diesel::update(users::table.find(user_id))
                    .set(users::event_version.eq(users::event_version))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(version) = version else { return Ok(0) };
                let oldest: Vec<SessionId> = sessions::table
                    .filter(sessions::user_id.eq(user_id))
                    .filter(is_live(now))
                    .order((sessions::created_at.desc(), sessions::id.desc()))
                    .offset(kept)
                    .limit(MOST_ENDED)
                    .select(sessions::id)
                    .load(conn)
                    .await?;
                let mut ended: Vec<EndedSession> = diesel::update(sessions::table)
                    .filter(sessions::id.eq_any(oldest))
                    .set((
                        sessions::revoked_at.eq(now),
                        sessions::revoke_reason.eq(reason),
                    ))
                    .returning(EndedSession::as_returning())
                    .get_results(conn)
                    .await?;
                ended.sort_by_key(|session| session.id);
                let events: Vec<_> = ended.iter().map(|ended| ended.event(end, act)).collect();
                write_events!(conn, user_id, version, events.iter());
                Ok::<_, Error>(ended.len())
            })
            .await?
        })
    }

    /// Sets another password if the account still has the one that the caller has shown,
    /// and ends the other sessions, with all the events. Says how many it ended.
    pub async fn change_password(
        &self,
        account: &Account,
        own: SessionId,
        new: &NewHash<'_>,
        end: SessionEnd,
    ) -> Result<Outcome<usize>, Error> {
        let (user_id, act) = (account.user_id, &new.event.act);
        let (now, reason) = (act.now, end.reason.as_str());
        with_conn!(self, conn => {
            let done = conn.transaction(async |conn| {
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
                let ended = end_others!(conn, user_id, own, now, reason);
                let events: Vec<_> = ended.iter().map(|ended| ended.event(end, act)).collect();
                let events = std::iter::once(new.event).chain(&events);
                write_events!(conn, user_id, version, events);
                Ok(ended.len())
            });
            outcome(done.await)?
        })
    }

    /// Deletes the account if it still has the password that the caller has shown, and with
    /// it its sessions. The event is the user's last.
    pub async fn delete_account(
        &self,
        account: &Account,
        own: SessionId,
        event: &Event,
    ) -> Result<Outcome<()>, Error> {
        with_conn!(self, conn => {
            let done = conn.transaction(async |conn| {
                let version: i64 = diesel::update(users::table.find(account.user_id))
                    .filter(users::password_changed_at.eq(account.password_changed_at))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::PasswordChanged)?;
                insist_on_session!(conn, own, event.act.now);
                diesel::insert_into(outbox_events::table)
                    .values(EventRow::new(event, version))
                    .execute(conn)
                    .await?;
                diesel::delete(users::table.find(account.user_id))
                    .execute(conn)
                    .await?;
                Ok(())
            });
            outcome(done.await)?
        })
    }
}
