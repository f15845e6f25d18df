use std::iter;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{FoundMail, Steps as _};
use crate::{
    db::{
        Db, Error, Key, NewHash, NewSession,
        revocations::{Outcome, Steps as _, Undone, outcome},
        schema::users,
        throttle::Clear as _,
        transaction::transaction,
        users::is_not_suspended,
        with_conn,
    },
    model::{Event, SessionEnd, Timestamp},
};

/// A forgotten password that is replaced.
pub struct Reset<'a> {
    pub mail: &'a FoundMail,
    pub new: NewHash<'a>,
    /// Written unless the address was verified before.
    pub verified: &'a Event,
    /// Starts after all others have ended.
    pub session: Option<&'a NewSession>,
    pub end: SessionEnd,
    /// The counters of the account, under each data key. They are set back.
    pub counters: &'a [Key],
}

impl Db {
    /// Replaces the password, verifies the address, ends all sessions, sets the account's
    /// counters back and uses the request up. Returns the number of ended sessions, or `None` if
    /// the request is used or void, or the account is suspended.
    pub async fn reset_password(&self, reset: &Reset<'_>) -> Result<Option<usize>, Error> {
        let (user_id, act) = (reset.mail.user_id, &reset.new.event.act);
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let (version, verified_at) = diesel::update(users::table.find(user_id))
                    .filter(users::password_changed_at.eq(reset.mail.password_changed_at))
                    .filter(is_not_suspended(act.now))
                    .set((
                        users::password_hash.eq(reset.new.hash),
                        users::password_changed_at.eq(reset.new.changed_at),
                    ))
                    .returning((users::event_version, users::email_verified_at))
                    .get_result::<(i64, Option<Timestamp>)>(conn)
                    .await
                    .optional()?
                    .ok_or(Undone::PasswordChanged)?;
                if !conn.void_mails(user_id, Some(reset.mail.request_id)).await? {
                    return Err(Undone::PasswordChanged);
                }
                let verified = verified_at.is_none().then_some(reset.verified);
                if verified.is_some() {
                    diesel::update(users::table.find(user_id))
                        .set(users::email_verified_at.eq(act.now))
                        .execute(conn)
                        .await?;
                }
                let ended = conn.end_sessions(user_id, None, reset.end, act).await?;
                let started = reset.session.and_then(|session| session.event.as_ref());
                let first = iter::once(reset.new.event).chain(verified);
                let events: Vec<_> = first.chain(&ended).chain(started).collect();
                conn.write_events(user_id, version, &events).await?;
                if let Some(session) = reset.session {
                    conn.insert_session(session).await?;
                }
                conn.clear_counters(reset.counters).await?;
                Ok(ended.len())
            });
            match outcome(done.await)? {
                Outcome::Done(ended) => Some(ended),
                Outcome::PasswordChanged | Outcome::SessionEnded => None,
            }
        })
    }
}
