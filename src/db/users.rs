//! Accounts.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::{
    Db, Error,
    outbox::EventRow,
    schema::{outbox_events, sessions, users},
    sessions::NewSession,
    with_conn,
};
use crate::model::{Credentials, Event, Timestamp, UserId};

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

#[derive(Queryable)]
struct CredentialsRow {
    user_id: UserId,
    password_hash: String,
    password_changed_at: Timestamp,
}

impl From<CredentialsRow> for Credentials {
    fn from(row: CredentialsRow) -> Self {
        Self {
            user_id: row.user_id,
            password_hash: row.password_hash,
            password_changed_at: row.password_changed_at,
        }
    }
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
                .first::<CredentialsRow>(conn)
                .await
                .optional()?
                .map(Credentials::from)
        })
    }

    /// Creates the account, its session if one is wanted, and the event (the user's
    /// first). Of concurrent registrations of one address exactly one is created.
    pub async fn register(
        &self,
        user: &NewUser<'_>,
        session: Option<&NewSession<'_>>,
        event: &Event,
    ) -> Result<Registration, Error> {
        const FIRST_VERSION: i64 = 1;
        let event = &EventRow::new(event, FIRST_VERSION);
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
