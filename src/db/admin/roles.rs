use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        Db, Error, outbox::insert_event, revocations::Steps as _, schema::users,
        transaction::transaction, with_conn,
    },
    model::{Act, Event, Payload, Roles, UserId},
};

/// The result of a change of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetRoles {
    /// The version of the new roles.
    Set(i64),
    /// They have another version than expected. Nothing was changed.
    Conflict,
    UnknownUser,
}

impl Db {
    /// Replaces the roles of a user if they have the expected version. `None` expects any.
    pub async fn set_roles(
        &self,
        user_id: UserId,
        roles: &Roles,
        expected: Option<i64>,
        act: &Act,
    ) -> Result<SetRoles, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                if conn.lock_user(user_id).await?.is_none() {
                    return Ok(SetRoles::UnknownUser);
                }
                let user = users::table.find(user_id);
                let current: i64 = user.select(users::roles_version).first(conn).await?;
                if expected.is_some_and(|expected| expected != current) {
                    return Ok(SetRoles::Conflict);
                }
                let version = current + 1;
                let event_version: i64 = diesel::update(user)
                    .set((
                        users::roles.eq(roles.as_str()),
                        users::roles_version.eq(version),
                        users::event_version.eq(users::event_version + 1),
                    ))
                    .returning(users::event_version)
                    .get_result(conn)
                    .await?;
                let roles = roles.clone();
                let event = Event::new(user_id, Payload::RolesChanged { roles, version }, act);
                insert_event(&event, event_version).execute(conn).await?;
                Ok::<_, Error>(SetRoles::Set(version))
            })
            .await?
        })
    }
}
