//! The steps that the transactions share.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Undone, insert::InsertRevocations};
use crate::{
    db::{
        outbox::{EventRow, insert_events},
        schema::{deleted_users, sessions, users},
        sessions::{FIRST_GENERATION, NewSession, is_live},
        steps::steps,
    },
    model::{
        Act, Event, MAX_SESSIONS, Revocation, SessionEnd, SessionEndReason, SessionId, Timestamp,
        TokenTimes, UserId,
    },
};

/// How many events are written in one statement: SQLite allows 32766 parameters.
const EVENTS_AT_ONCE: usize = 1000;

/// A session that an act ended.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(super) struct EndedSession {
    id: SessionId,
    user_id: UserId,
    #[diesel(embed)]
    times: TokenTimes,
}

impl EndedSession {
    pub(super) fn event(&self, end: SessionEnd, act: &Act) -> Event {
        Event::new(self.user_id, end.of(self.id, self.times, act), act)
    }

    pub(super) fn revocation(&self, end: SessionEnd, act: &Act) -> Revocation {
        Revocation::of_session(self.id, self.times, end, act)
    }
}

/// For gateways, when an act has ended these sessions of a user: `all` that there were, or some.
fn revoked(
    user_id: UserId,
    ended: &[EndedSession],
    all: bool,
    (end, act): (SessionEnd, &Act),
) -> Vec<Revocation> {
    if all {
        let ended: Vec<_> = ended.iter().map(|it| (it.id, it.times)).collect();
        return Revocation::of_user(user_id, &ended, end, act);
    }
    let ended = ended.iter().map(|session| session.revocation(end, act));
    ended.collect()
}

/// The events of several ended sessions, the oldest session first.
pub(super) fn events(mut ended: Vec<EndedSession>, end: SessionEnd, act: &Act) -> Vec<Event> {
    ended.sort_by_key(|session| session.id);
    let events = ended.iter().map(|session| session.event(end, act));
    events.collect()
}

/// The change that ends a session.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn ended(now: Timestamp, reason: SessionEndReason) -> _ {
    let reason: &'static str = reason.as_str();
    (
        sessions::revoked_at.eq(now),
        sessions::revoke_reason.eq(reason),
    )
}

steps! {
    trait Steps;

    /// Locks the user's row and returns the version of the user's last event.
    async fn lock_user(&mut self, user_id: UserId) -> QueryResult<Option<i64>> {
        diesel::update(users::table.find(user_id))
            .set(users::event_version.eq(users::event_version))
            .returning(users::event_version)
            .get_result(self)
            .await
            .optional()
    }

    async fn require_live(&mut self, session: SessionId, now: Timestamp) -> Result<(), Undone> {
        let live = sessions::table.find(session).filter(is_live(now)).count();
        let live: i64 = live.get_result(self).await?;
        if live == 0 { Err(Undone::SessionEnded) } else { Ok(()) }
    }

    /// Ends the user's sessions, but for the caller's `own` if there is one, and returns the
    /// events. A session that has expired by this replica's clock ends too: the clock may be
    /// ahead.
    async fn end_sessions(
        &mut self, user_id: UserId, own: Option<SessionId>, end: SessionEnd, act: &Act
    ) -> QueryResult<Vec<Event>> {
        let all = own.is_none();
        let own = own.unwrap_or(SessionId::from_bytes([0; 16]));
        let others = diesel::update(sessions::table)
            .filter(sessions::user_id.eq(user_id))
            .filter(sessions::id.ne(own))
            .filter(sessions::revoked_at.is_null())
            .set(ended(act.now, end.reason))
            .returning(EndedSession::as_returning())
            .get_results(self)
            .await?;
        self.revoke(&revoked(user_id, &others, all, (end, act)), act.now).await?;
        Ok(events(others, end, act))
    }

    /// Records which access tokens gateways must refuse from the commit on.
    async fn revoke(&mut self, revoked: &[Revocation], now: Timestamp) -> QueryResult<()> {
        if !revoked.is_empty() {
            InsertRevocations::new(revoked, now).execute(self).await?;
        }
        Ok(())
    }

    /// Deletes the user, whose row is locked and whose last event has this version. The event is
    /// written after those of the sessions that were not revoked.
    async fn erase(&mut self, version: i64, end: SessionEnd, event: &Event) -> QueryResult<()> {
        let user_id = event.user_id;
        let ended: Vec<EndedSession> = diesel::delete(sessions::table)
            .filter(sessions::user_id.eq(user_id))
            .filter(sessions::revoked_at.is_null())
            .returning(EndedSession::as_returning())
            .get_results(self)
            .await?;
        let revoked = revoked(user_id, &ended, true, (end, &event.act));
        self.revoke(&revoked, event.act.now).await?;
        let ended = events(ended, end, &event.act);
        let events: Vec<_> = ended.iter().chain([event]).collect();
        self.insert_events_after(version, &events).await?;
        diesel::delete(users::table.find(user_id)).execute(self).await?;
        diesel::insert_into(deleted_users::table)
            .values(deleted_users::id.eq(user_id))
            .on_conflict_do_nothing()
            .execute(self)
            .await?;
        Ok(())
    }

    async fn insert_session(&mut self, session: &NewSession) -> QueryResult<()> {
        let generation = sessions::generation.eq(FIRST_GENERATION);
        let rotated_at = sessions::rotated_at.eq(session.created_at);
        diesel::insert_into(sessions::table)
            .values((session, generation, rotated_at))
            .execute(self)
            .await?;
        Ok(())
    }

    /// Ends the oldest sessions of a user who has more than [`MAX_SESSIONS`], and returns their
    /// number. The session that has just started stays, also if this replica's clock is behind
    /// and the session looks like the oldest one.
    async fn end_oldest(
        &mut self, started: &NewSession, version: i64, end: SessionEnd, act: &Act
    ) -> QueryResult<usize> {
        let user_id = started.user_id;
        let oldest: Vec<SessionId> = sessions::table
            .filter(sessions::user_id.eq(user_id))
            .filter(sessions::id.ne(started.id))
            .filter(sessions::revoked_at.is_null())
            .order((sessions::created_at.desc(), sessions::id.desc()))
            .offset(MAX_SESSIONS - 1)
            .select(sessions::id)
            .load(self)
            .await?;
        let oldest = diesel::update(sessions::table)
            .filter(sessions::id.eq_any(oldest))
            .set(ended(act.now, end.reason))
            .returning(EndedSession::as_returning())
            .get_results(self)
            .await?;
        self.revoke(&revoked(user_id, &oldest, false, (end, act)), act.now).await?;
        let events = events(oldest, end, act);
        let events: Vec<_> = events.iter().collect();
        self.write_events(user_id, version, &events).await?;
        Ok(events.len())
    }

    /// Writes the next events of a user whose last one has this version.
    async fn write_events(
        &mut self, user_id: UserId, version: i64, events: &[&Event]
    ) -> QueryResult<()> {
        if events.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(events.len()).expect("memory is smaller");
        diesel::update(users::table.find(user_id))
            .set(users::event_version.eq(users::event_version + count))
            .execute(self)
            .await?;
        self.insert_events_after(version, events).await
    }

    /// Like `write_events`, for a user whose row is new or deleted.
    async fn insert_events_after(&mut self, version: i64, events: &[&Event]) -> QueryResult<()> {
        let mut versions = version + 1..;
        for events in events.chunks(EVENTS_AT_ONCE) {
            let rows = events.iter().zip(&mut versions);
            let rows = rows.map(|(event, version)| EventRow::new(event, version));
            insert_events(rows.collect()).execute(self).await?;
        }
        Ok(())
    }
}
