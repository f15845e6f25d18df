//! A change of the address: asked for by the user, completed by the owner of the new address.

use std::{iter, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    FoundMail, MailRefusal, Recipient, Steps as _, Undone, is_of_this_password, settled, taken,
};
use crate::{
    db::{
        Db, Error,
        outbox::insert_event,
        revocations::{self, Outcome, Steps as _, outcome},
        schema::{mail_requests, users},
        transaction::transaction,
        with_conn,
    },
    model::{
        Account, Act, CHANGES_COUNT_FOR, Event, MAX_CHANGES, MailPurpose, MailRequest, Payload,
        SessionEnd, SessionId, Timestamp, UserId,
    },
};

/// A change that the owner of the new address has confirmed.
pub struct Change<'a> {
    pub mail: &'a FoundMail,
    /// The mail with which the owner of the old address can undo it.
    pub revert: &'a MailRequest,
    pub event: &'a Event,
    pub end: SessionEnd,
}

impl Db {
    /// When the address was changed, the last change first, as far as changes count.
    pub async fn changes_of_email(
        &self,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, Error> {
        with_conn!(self, conn => { conn.changes_of_address(user_id, now).await? })
    }

    /// The address of a change that can still be confirmed.
    pub async fn pending_email(
        &self,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        with_conn!(self, conn => {
            mail_requests::table
                .inner_join(users::table)
                .filter(mail_requests::user_id.eq(user_id))
                .filter(mail_requests::purpose.eq(MailPurpose::ChangeEmail.as_str()))
                .filter(mail_requests::expires_at.ge(now))
                .filter(is_of_this_password())
                .order(mail_requests::id.desc())
                .select(mail_requests::email)
                .first(conn)
                .await
                .optional()?
        })
    }

    /// Asks for the mail of a change, in place of an earlier one.
    pub async fn request_change_of_email(
        &self,
        account: &Account,
        own: SessionId,
        request: &MailRequest,
        act: &Act,
    ) -> Result<Outcome<Event>, Error> {
        let user_id = account.user_id;
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let recipient: Recipient = diesel::update(users::table.find(user_id))
                    .filter(users::password_changed_at.eq(account.password_changed_at))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?
                    .ok_or(revocations::Undone::PasswordChanged)?;
                conn.require_live(own, act.now).await?;
                diesel::delete(mail_requests::table)
                    .filter(mail_requests::user_id.eq(user_id))
                    .filter(mail_requests::purpose.eq(request.purpose.as_str()))
                    .execute(conn)
                    .await?;
                conn.insert_request(request, Some(&recipient)).await?;
                let event = Event::new(user_id, Payload::mail_requested(request), act);
                insert_event(&event, recipient.event_version).execute(conn).await?;
                Ok(event)
            });
            outcome(done.await)?
        })
    }

    /// Replaces the address, ends all sessions but the one that asked, and reserves the old
    /// address. The unique index is the judge of a race for the new one.
    pub async fn change_email(
        &self,
        change: &Change<'_>,
    ) -> Result<Result<(), MailRefusal>, Error> {
        let (mail, act) = (change.mail, &change.event.act);
        let (user_id, now) = (mail.user_id, act.now);
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let refused = |why| Err(Undone::Refused(why));
                let recipient: Option<Recipient> = diesel::update(users::table.find(user_id))
                    .filter(users::email.eq(&mail.email))
                    .set((
                        users::email.eq(&mail.sent_to),
                        users::email_verified_at.eq(now),
                    ))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await
                    .optional()
                    .map_err(taken)?;
                let Some(recipient) = recipient else {
                    return refused(MailRefusal::Void);
                };
                if !conn.void_mails(user_id, Some(mail.request_id)).await? {
                    return refused(MailRefusal::Void);
                }
                let changes = conn.changes_of_address(user_id, now).await?;
                if let Some(oldest) = changes.get(MAX_CHANGES - 1) {
                    return refused(MailRefusal::TooManyChanges(*oldest + CHANGES_COUNT_FOR));
                }
                // Later than the change before even if a clock went back: a revert voids the later
                // ones by this time.
                let after_last = changes.as_slice().first().map_or(now, |last| *last + Duration::from_micros(1));
                let revert = MailRequest { requested_at: now.max(after_last), ..change.revert.clone() };
                // Read after the new address was written: an account that had it has committed.
                if conn.is_reserved(&mail.sent_to, user_id, now).await? {
                    return refused(MailRefusal::EmailTaken);
                }
                conn.insert_request(&revert, Some(&recipient)).await?;
                let ended = conn.end_sessions(user_id, mail.session_id, change.end, act).await?;
                let asked = Event::new(user_id, Payload::mail_requested(&revert), act);
                let events = iter::once(change.event).chain(&ended).chain([&asked]);
                conn.write_events(user_id, recipient.event_version, &events.collect::<Vec<_>>()).await?;
                Ok(())
            });
            settled(done.await)?
        })
    }
}
