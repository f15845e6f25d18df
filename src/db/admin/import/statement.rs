//! The statements of an import.

use diesel::{
    backend::Backend,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{HasSqlType, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::NewImport;
use crate::{
    db::{
        schema::{deleted_users, users},
        sql_types::{Moment, Uuid},
        steps::steps,
    },
    model::{KnownAccounts, StoredHash, Timestamp, UserId},
};

steps! {
    trait Steps;

    /// The accounts with one of these addresses or ids, and the ids of deleted ones.
    async fn known_accounts(
        &mut self, emails: &[&str], ids: &[UserId]
    ) -> QueryResult<KnownAccounts> {
        let found: Vec<(UserId, String)> = users::table
            .filter(users::email.eq_any(emails))
            .or_filter(users::id.eq_any(ids))
            .select((users::id, users::email))
            .load(self)
            .await?;
        let deleted: Vec<UserId> = deleted_users::table
            .filter(deleted_users::id.eq_any(ids))
            .select(deleted_users::id)
            .load(self)
            .await?;
        Ok(KnownAccounts {
            ids: found.iter().map(|(id, _)| *id).chain(deleted).collect(),
            accounts: found.into_iter().map(|(id, email)| (email, id)).collect(),
            ..KnownAccounts::default()
        })
    }
}

/// Inserts accounts, but none whose address or id exists. (Diesel's own way is not async on
/// SQLite.)
pub(super) struct InsertUsers<'a>(pub(super) &'a [&'a NewImport]);

impl<DB> QueryFragment<DB> for InsertUsers<'_>
where
    DB: Backend + HasSqlType<Uuid> + HasSqlType<Moment> + HasSqlType<Nullable<Moment>>,
    UserId: ToSql<Uuid, DB>,
    str: ToSql<Text, DB>,
    StoredHash: ToSql<Text, DB>,
    Timestamp: ToSql<Moment, DB>,
    Option<Timestamp>: ToSql<Nullable<Moment>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        // A statement for each number of rows.
        out.unsafe_to_cache_prepared();
        out.push_sql(
            "INSERT INTO users (id, email, password_hash, created_at, password_changed_at, \
             email_verified_at, roles, roles_version, event_version) VALUES ",
        );
        for (n, user) in self.0.iter().enumerate() {
            out.push_sql(if n == 0 { "(" } else { ", (" });
            out.push_bind_param::<Uuid, _>(&user.event.user_id)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(user.email.as_str())?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(&user.password_hash)?;
            for _created_and_password_changed in 0..2 {
                out.push_sql(", ");
                out.push_bind_param::<Moment, _>(&user.created_at)?;
            }
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Moment>, _>(&user.email_verified_at)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(user.roles.as_str())?;
            out.push_sql(if user.roles.is_empty() {
                ", 0, 1)"
            } else {
                ", 1, 1)"
            });
        }
        out.push_sql(" ON CONFLICT DO NOTHING");
        Ok(())
    }
}

impl QueryId for InsertUsers<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}
