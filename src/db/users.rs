//! Accounts.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::{
    Db, Error,
    outbox::EventRow,
    schema::{outbox_events, sessions, users},
    sessions::{NewSession, NewSessionRow},
    with_conn,
};
use crate::model::{Credentials, Event, Timestamp, UserId};

/// An account to create.
pub struct NewUser<'a> {
    pub id: UserId,
    /// The normalised address.
    pub email: &'a str,
    /// The bcrypt string.
    pub password_hash: &'a str,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Created,
    /// Another account has the address. Nothing was written.
    EmailTaken,
}

impl Db {
    /// Finds an account by its normalised address.
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

    /// Creates the account, its session if there is one, and its first event. If several calls
    /// register one address at the same time, exactly one succeeds.
    pub async fn register(
        &self,
        user: &NewUser<'_>,
        session: Option<&NewSession>,
        event: &Event,
    ) -> Result<Registration, Error> {
        const FIRST_VERSION: i64 = 1;
        let row = (
            users::id.eq(user.id),
            users::email.eq(user.email),
            users::password_hash.eq(user.password_hash),
            users::created_at.eq(user.created_at),
            users::event_version.eq(FIRST_VERSION),
            users::password_changed_at.eq(user.created_at),
        );
        let event = &EventRow::new(event, FIRST_VERSION);
        with_conn!(self, conn => {
            conn.transaction(async |conn| {
                let created = diesel::insert_into(users::table)
                    .values(row)
                    .on_conflict(users::email)
                    .do_nothing()
                    .execute(conn)
                    .await?;
                if created == 0 {
                    return Ok(Registration::EmailTaken);
                }
                if let Some(session) = session {
                    diesel::insert_into(sessions::table)
                        .values(NewSessionRow::from(session))
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

    /// Replaces a password hash by one of another cost, unless the hash has changed meanwhile.
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
