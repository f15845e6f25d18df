//! Resets that an administrator asks for, passwords that are made unusable, and counters of failed
//! logins.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error, Key,
        mail::{Recipient, Steps as _},
        revocations::Steps as _,
        schema::users,
        throttle::Clear as _,
        transaction::transaction,
        with_conn,
    },
    model::{
        Act, Event, MailPurpose, MailRequest, MailRequestId, PasswordChangeCause, Payload,
        SessionEnd, StoredHash, Timestamp, UserId,
    },
};

/// Why no reset was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReset {
    UnknownUser,
    /// Until then; `None`: until it is restored.
    Suspended(Option<Timestamp>),
}

fn reset(email: &str, now: Timestamp) -> MailRequest {
    MailRequest::new(MailPurpose::ResetPassword, email.to_owned(), None, now)
}

impl Db {
    /// Asks for a mail with which the user resets the password.
    pub async fn send_reset(
        &self,
        user_id: UserId,
        act: &Act,
    ) -> Result<Result<MailRequestId, NoReset>, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else {
                    return Ok(Err(NoReset::UnknownUser));
                };
                let user = users::table.find(user_id);
                let (recipient, email): (Recipient, String) = user
                    .select((Recipient::as_select(), users::email))
                    .first(conn)
                    .await?;
                if recipient.is_suspended(act.now) {
                    return Ok(Err(NoReset::Suspended(recipient.suspended_until)));
                }
                let mail = reset(&email, act.now);
                conn.insert_request(&mail, Some(&recipient)).await?;
                let event = Event::new(user_id, Payload::mail_requested(&mail), act);
                conn.write_events(user_id, version, &[&event]).await?;
                Ok::<_, Error>(Ok(mail.id))
            })
            .await?
        })
    }

    /// Makes the password unusable, ends all sessions, makes open mails void, and asks for a reset
    /// unless the account is suspended. Returns that mail, or `None` if the user is unknown.
    pub async fn invalidate_password(
        &self,
        user_id: UserId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<Option<MailRequestId>>, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(None) };
                let user = users::table.find(user_id);
                let (email, before): (String, Timestamp) = user
                    .select((users::email, users::password_changed_at))
                    .first(conn)
                    .await?;
                // Later than the previous time even if the clock went back.
                let changed_at = act.now.max(before + Duration::from_micros(1));
                let recipient: Recipient = diesel::update(user)
                    .set((
                        users::password_hash.eq(StoredHash::unusable()),
                        users::password_changed_at.eq(changed_at),
                    ))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await?;
                conn.void_mails(user_id, None).await?;
                let mail = (!recipient.is_suspended(act.now)).then(|| reset(&email, act.now));
                if let Some(mail) = &mail {
                    conn.insert_request(mail, Some(&recipient)).await?;
                }
                let event = |payload| Event::new(user_id, payload, act);
                let cause = PasswordChangeCause::Invalidated;
                let changed = event(Payload::PasswordChanged { changed_at, cause });
                let ended = conn.end_sessions(user_id, None, end, act).await?;
                let asked = mail.as_ref().map(|mail| event(Payload::mail_requested(mail)));
                let events = [&changed].into_iter().chain(&ended).chain(&asked);
                conn.write_events(user_id, version, &events.collect::<Vec<_>>()).await?;
                Ok::<_, Error>(Some(mail.map(|mail| mail.id)))
            })
            .await?
        })
    }

    /// Sets these counters of failures back.
    pub async fn clear_throttle(&self, keys: &[Key]) -> Result<(), Error> {
        with_conn!(self, conn => { conn.clear_counters(keys).await? })
    }
}
