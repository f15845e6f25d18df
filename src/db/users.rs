//! Accounts.

use std::iter;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Db, Error,
    mail::{Recipient, Steps as _},
    revocations::Steps as _,
    schema::{sessions, users},
    sessions::{NewSession, is_live},
    transaction::transaction,
    with_conn,
};
use crate::model::{
    Account, Credentials, Event, Locale, MailRequest, Payload, SessionId, StoredHash, Timestamp,
    UserId,
};

#[derive(Insertable)]
#[diesel(table_name = users)]
pub struct NewUser<'a> {
    pub id: UserId,
    /// The normalised address.
    pub email: &'a str,
    pub password_hash: &'a StoredHash,
    pub locale: Option<&'a Locale>,
    pub created_at: Timestamp,
}

/// How many users one statement advances: it takes some milliseconds.
const ADVANCED_AT_ONCE: i64 = 1000;

/// One step of [`Db::advance_versions`].
#[derive(Debug)]
pub struct Advanced {
    pub users: usize,
    /// The last user, after whom the next step starts. `None` at the end.
    pub next: Option<UserId>,
}

/// Why a registration was rolled back.
enum Undone {
    EmailTaken,
    Failed(Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Created,
    /// Another account has the address. Nothing was written.
    EmailTaken,
}

/// [`Suspension::is_in_force`](crate::model::Suspension::is_in_force) in SQL, negated.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn is_not_suspended(now: Timestamp) -> _ {
    let has_ended = users::suspended_until.le(now);
    users::suspended_at.is_null().or(has_ended)
}

impl Db {
    /// Finds an account by its normalised address.
    pub async fn find_credentials(&self, email: &str) -> Result<Option<Credentials>, Error> {
        with_conn!(self, conn => {
            users::table
                .filter(users::email.eq(email))
                .select(Credentials::as_select())
                .first(conn)
                .await
                .optional()?
        })
    }

    /// Finds the account of a live session of this user, who is not suspended, and the session's
    /// absolute end.
    pub async fn find_account(
        &self,
        user_id: UserId,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<Option<(Account, Timestamp)>, Error> {
        with_conn!(self, conn => {
            users::table
                .inner_join(sessions::table)
                .filter(users::id.eq(user_id))
                .filter(sessions::id.eq(session_id))
                .filter(is_live(now))
                .filter(is_not_suspended(now))
                .select((Account::as_select(), sessions::ends_at))
                .first(conn)
                .await
                .optional()?
        })
    }

    /// Creates the account, its session if there is one, and its first event. Asks for a mail if
    /// there is one. If several calls register one address at the same time, exactly one succeeds.
    pub async fn register(
        &self,
        user: &NewUser<'_>,
        session: Option<&NewSession>,
        mail: Option<&MailRequest>,
        event: &Event,
    ) -> Result<Registration, Error> {
        let mail_event =
            mail.map(|mail| Event::new(user.id, Payload::mail_requested(mail), &event.act));
        let started = session.and_then(|session| session.event.as_ref());
        let events: Vec<_> = iter::once(event)
            .chain(started)
            .chain(&mail_event)
            .collect();
        let address = user.email;
        let version = i64::try_from(events.len()).expect("at most three");
        let recipient = Recipient {
            user_id: user.id,
            event_version: version,
            password_changed_at: user.created_at,
            locale: user.locale.map(|locale| locale.as_str().to_owned()),
            suspended_at: None,
            suspended_until: None,
        };
        let user = (
            user,
            users::event_version.eq(version),
            users::password_changed_at.eq(user.created_at),
        );
        with_conn!(self, conn => {
            let done = transaction(conn, async |conn| {
                let created = diesel::insert_into(users::table)
                    .values(user)
                    .on_conflict(users::email)
                    .do_nothing()
                    .execute(conn)
                    .await?;
                if created == 0 {
                    return Err(Undone::EmailTaken);
                }
                // Read after the address was written: an account that had it has committed by now.
                if conn.is_reserved(address, event.user_id, event.act.now).await? {
                    return Err(Undone::EmailTaken);
                }
                if let Some(session) = session {
                    conn.insert_session(session).await?;
                }
                if let Some(mail) = mail {
                    conn.insert_request(mail, Some(&recipient)).await?;
                }
                conn.insert_events_after(0, &events).await?;
                Ok(Registration::Created)
            });
            match done.await {
                Ok(created) => created,
                Err(Undone::EmailTaken) => Registration::EmailTaken,
                Err(Undone::Failed(error)) => return Err(error),
            }
        })
    }

    /// Raises the event version of the users after this one, in the order of their ids. A row is
    /// locked only while one step runs, and any act of its user comes before or after it.
    pub async fn advance_versions(
        &self,
        after: Option<UserId>,
        by: i64,
    ) -> Result<Advanced, Error> {
        let after = after.unwrap_or(UserId::from_bytes([0; 16]));
        with_conn!(self, conn => {
            let mut ids: Vec<UserId> = users::table
                .filter(users::id.gt(after))
                .order(users::id)
                .limit(ADVANCED_AT_ONCE)
                .select(users::id)
                .load(conn)
                .await?;
            let Some(last) = ids.pop() else { return Ok(Advanced { users: 0, next: None }) };
            let users = diesel::update(users::table)
                .filter(users::id.gt(after).and(users::id.le(last)))
                .set(users::event_version.eq(users::event_version + by))
                .execute(conn)
                .await?;
            Advanced { users, next: Some(last) }
        })
    }

    /// Replaces a password hash by one of another cost, unless the hash has changed meanwhile.
    pub async fn upgrade_password_hash(
        &self,
        user_id: UserId,
        old: &str,
        new: &StoredHash,
    ) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::update(users::table.find(user_id))
                .filter(users::password_hash.eq(old))
                .set(users::password_hash.eq(new))
                .execute(conn)
                .await?;
        })
    }
}
