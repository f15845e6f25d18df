//! Accounts.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::{
    Db, Error,
    outbox::NewEvent,
    schema::{outbox_events, sessions, users},
    sessions::NewSession,
    with_conn,
};
use crate::{clock::Timestamp, id::UserId};

/// An account to create.
#[derive(Insertable)]
#[diesel(table_name = users)]
pub struct NewUser<'a> {
    /// The new id.
    pub id: UserId,
    /// The normalised address.
    pub email: &'a str,
    /// The bcrypt string.
    pub password_hash: &'a str,
    /// When.
    pub created_at: Timestamp,
}

/// What a login is checked against.
#[derive(Queryable)]
pub struct Credentials {
    /// Whose they are.
    pub user_id: UserId,
    /// The bcrypt string.
    pub password_hash: String,
    /// Which password it is: see [`Account`](super::accounts::Account).
    pub password_changed_at: Timestamp,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The account, its session and its event are there.
    Created,
    /// Somebody has the address already; nothing was written.
    EmailTaken,
}

impl Db {
    /// Looks up an account by its normalised address.
    pub async fn find_credentials(&self, email: &str) -> Result<Option<Credentials>, Error> {
        with_conn!(self, conn => {
            users::table
                .filter(users::email.eq(email))
                .select((
                    users::id,
                    users::password_hash,
                    users::password_changed_at,
                ))
                .first(conn)
                .await
                .optional()?
        })
    }

    /// Creates the account, its session if one is wanted, and the event (the user's
    /// first). Of concurrent registrations of one address exactly one is created.
    pub async fn register(
        &self,
        user: &NewUser<'_>,
        session: Option<&NewSession<'_>>,
        event: &NewEvent,
    ) -> Result<Registration, Error> {
        const FIRST_VERSION: i64 = 1;
        let event = &event.versioned(FIRST_VERSION);
        with_conn!(self, conn => {
            conn.transaction(async |conn| {
                let created = diesel::insert_into(users::table)
                    .values((
                        user,
                        users::event_version.eq(FIRST_VERSION),
                        users::password_changed_at.eq(user.created_at),
                    ))
                    .on_conflict(users::email)
                    .do_nothing()
                    .execute(conn)
                    .await?;
                if created == 0 {
                    return Ok(Registration::EmailTaken);
                }
                if let Some(session) = session {
                    diesel::insert_into(sessions::table)
                        .values(session.row())
                        .execute(conn)
                        .await?;
                }
                diesel::insert_into(outbox_events::table)
                    .values(event)
                    .execute(conn)
                    .await?;
                Ok::<_, Error>(Registration::Created)
            })
            .await?
        })
    }

    /// Replaces a password hash by one of another cost, unless it was changed meanwhile.
    pub async fn upgrade_password_hash(
        &self,
        user_id: UserId,
        old: &str,
        new: &str,
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
