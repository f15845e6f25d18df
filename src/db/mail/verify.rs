//! The verification of an address.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{FoundMail, Recipient, Steps as _};
use crate::{
    db::{
        Db, Error,
        outbox::insert_event,
        revocations::Steps as _,
        schema::{mail_requests, users},
        transaction::transaction,
        with_conn,
    },
    model::{Act, Event, MailPurpose, MailRequest, Payload, Timestamp, UserId},
};

impl Db {
    /// Whether the user has been asked by a mail that can still be used.
    pub async fn has_open_mail(
        &self,
        user_id: UserId,
        purpose: MailPurpose,
        now: Timestamp,
    ) -> Result<bool, Error> {
        with_conn!(self, conn => { conn.has_open_request(user_id, purpose, now).await? })
    }

    /// Asks for a mail that verifies the account's own address. `None` if the account is gone, has
    /// another address now, or is verified.
    pub async fn request_verification(
        &self,
        user_id: UserId,
        request: &MailRequest,
        act: &Act,
    ) -> Result<Option<Event>, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let recipient: Option<Recipient> = diesel::update(users::table.find(user_id))
                    .filter(users::email.eq(&request.email))
                    .filter(users::email_verified_at.is_null())
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(recipient) = recipient else { return Ok(None) };
                conn.insert_request(request, Some(&recipient)).await?;
                let event = Event::new(user_id, Payload::mail_requested(request), act);
                insert_event(&event, recipient.event_version).execute(conn).await?;
                Ok::<_, Error>(Some(event))
            })
            .await?
        })
    }

    /// Uses the request up and verifies the address. `false` if the request is used or void. The
    /// event is written unless the address was verified before.
    pub async fn verify_email(&self, mail: &FoundMail, event: &Event) -> Result<bool, Error> {
        let user_id = mail.user_id;
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(false) };
                let used = diesel::delete(mail_requests::table.find(mail.request_id))
                    .execute(conn)
                    .await?;
                if used == 0 {
                    return Ok(false);
                }
                let verified = diesel::update(users::table.find(user_id))
                    .filter(users::email_verified_at.is_null())
                    .set(users::email_verified_at.eq(event.act.now))
                    .execute(conn)
                    .await?;
                if verified > 0 {
                    conn.write_events(user_id, version, &[event]).await?;
                }
                Ok::<_, Error>(true)
            })
            .await?
        })
    }
}
