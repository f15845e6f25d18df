//! The undoing of a change of the address by the owner of the old one.

use std::{iter, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{FoundMail, MailRefusal, Recipient, Steps as _, Undone, settled, taken};
use crate::{
    db::{
        Db, Error,
        revocations::Steps as _,
        schema::{mail_requests, users},
        transaction::transaction,
        with_conn,
    },
    model::{
        Act, Event, MailPurpose, MailRequest, PasswordChangeCause, Payload, SessionEnd, StoredHash,
        Timestamp,
    },
};

pub struct Revert<'a> {
    pub mail: &'a FoundMail,
    /// The mail with which the owner sets a new password.
    pub reset: &'a MailRequest,
    pub end: SessionEnd,
    pub act: &'a Act,
}

impl Db {
    /// Puts the old address back, makes the password unusable, ends all sessions and asks for a
    /// reset, unless the account is suspended. The reverts of later changes are void, those of earlier ones are not.
    pub async fn revert_email(
        &self,
        revert: &Revert<'_>,
    ) -> Result<Result<(), MailRefusal>, Error> {
        let (mail, act) = (revert.mail, revert.act);
        let user_id = mail.user_id;
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let void = Undone::Refused(MailRefusal::Void);
                let Some(version) = conn.lock_user(user_id).await? else { return Err(void) };
                let used = diesel::delete(mail_requests::table.find(mail.request_id))
                    .execute(conn)
                    .await?;
                if used == 0 {
                    return Err(void);
                }
                conn.void_mails(user_id, None).await?;
                diesel::delete(mail_requests::table)
                    .filter(mail_requests::user_id.eq(user_id))
                    .filter(mail_requests::purpose.eq(MailPurpose::RevertEmail.as_str()))
                    .filter(mail_requests::requested_at.ge(mail.requested_at))
                    .execute(conn)
                    .await?;
                let (email, changed_at): (String, Timestamp) = users::table
                    .find(user_id)
                    .select((users::email, users::password_changed_at))
                    .first(conn)
                    .await?;
                // Later than the previous time even if the clock went back.
                let changed_at = act.now.max(changed_at + Duration::from_micros(1));
                let recipient: Recipient = diesel::update(users::table.find(user_id))
                    .set((
                        users::email.eq(&mail.sent_to),
                        users::email_verified_at.eq(act.now),
                        users::password_hash.eq(StoredHash::unusable()),
                        users::password_changed_at.eq(changed_at),
                    ))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await
                    .map_err(taken)?;
                let reset = Some(revert.reset).filter(|_| !recipient.is_suspended(act.now));
                if let Some(reset) = reset {
                    conn.insert_request(reset, Some(&recipient)).await?;
                }
                let ended = conn.end_sessions(user_id, None, revert.end, act).await?;
                let event = |payload| Event::new(user_id, payload, act);
                let moved = (email != mail.sent_to).then(|| {
                    event(Payload::EmailChanged {
                        old: email.clone(),
                        new: mail.sent_to.clone(),
                        reverted: true,
                    })
                });
                let cause = PasswordChangeCause::Invalidated;
                let invalidated = event(Payload::PasswordChanged { changed_at, cause });
                let asked = reset.map(|reset| event(Payload::mail_requested(reset)));
                let events = moved.iter().chain(iter::once(&invalidated)).chain(&ended).chain(&asked);
                conn.write_events(user_id, version, &events.collect::<Vec<_>>()).await?;
                Ok(())
            });
            settled(done.await)?
        })
    }
}
