use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error,
        schema::{mail_requests, outbox_events, sessions, users},
        with_conn,
    },
    model::{KeptEvent, KeptMail, KeptSession, PersonalData, User, UserId},
};

impl Db {
    /// All rows about a user. `None` if the user is unknown.
    pub async fn personal_data(&self, id: UserId) -> Result<Option<PersonalData>, Error> {
        with_conn!(self, conn => {
            let found: Option<(User, Option<String>)> = users::table
                .find(id)
                .select((User::as_select(), users::locale))
                .first(conn)
                .await
                .optional()?;
            let Some((user, locale)) = found else { return Ok(None) };
            let sessions: Vec<KeptSession> = sessions::table
                .filter(sessions::user_id.eq(id))
                .order(sessions::id.desc())
                .select(KeptSession::as_select())
                .load(conn)
                .await?;
            let before_registration = mail_requests::user_id
                .is_null()
                .and(mail_requests::email.eq(&user.email));
            let mails: Vec<KeptMail> = mail_requests::table
                .filter(mail_requests::user_id.eq(id).or(before_registration))
                .order(mail_requests::id.desc())
                .select(KeptMail::as_select())
                .load(conn)
                .await?;
            let events: Vec<KeptEvent> = outbox_events::table
                .filter(outbox_events::user_id.eq(id))
                .order(outbox_events::user_version)
                .select(KeptEvent::as_select())
                .load(conn)
                .await?;
            Some(PersonalData { user, locale, sessions, mails, events })
        })
    }
}
