//! The statements, as SQL: Diesel does not keep an UPDATE of its own prepared. Each one would be
//! prepared, run and closed again: three round trips instead of one.

use diesel::{
    backend::Backend,
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{Array, Binary, HasSqlType, Text},
};

use super::Rotation;
use crate::{
    db::sql_types::Moment,
    model::{AccountClaims, Refreshable, Roles, Session, Timestamp},
};

/// The columns that the statements return, before [`CLAIMS`].
type Columns = <Session as Selectable<Pg>>::SelectExpression;

/// The session, and [`CLAIMS`].
pub(super) type Rotated = (Session, String);

/// Whether the user's address is verified, whether the user is suspended, and the roles. One text,
/// because each column would be another look-up of the user. The session was rotated now.
const CLAIMS: &str = ", (SELECT CASE WHEN email_verified_at IS NULL THEN '-' ELSE '+' END || \
     CASE WHEN suspended_at IS NULL OR suspended_until <= sessions.rotated_at THEN '-' ELSE '+' END || \
     roles FROM users WHERE users.id = sessions.user_id)";

pub(super) fn refreshable((session, claims): Rotated) -> Refreshable {
    let (flags, roles) = claims.split_at_checked(2).unwrap_or_default();
    let roles = Roles::from_stored(roles.to_owned());
    let claims = AccountClaims {
        email_verified: flags.starts_with('+'),
        roles,
    };
    Refreshable {
        session,
        claims,
        is_suspended: flags.ends_with('+'),
    }
}

#[derive(QueryId)]
pub(super) struct RotateOne {
    rotation: Rotation,
    columns: Columns,
}

impl RotateOne {
    pub(super) fn new(rotation: &Rotation) -> Self {
        Self {
            rotation: rotation.clone(),
            columns: <Session as Selectable<Pg>>::construct_selection(),
        }
    }
}

impl<DB> QueryFragment<DB> for RotateOne
where
    DB: Backend + HasSqlType<Moment>,
    [u8; 32]: ToSql<Binary, DB>,
    Timestamp: ToSql<Moment, DB>,
    Columns: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let rotation = &self.rotation;
        out.push_sql(
            "UPDATE sessions SET generation = generation + 1, \
             previous_token_hash = token_hash, token_hash = ",
        );
        out.push_bind_param::<Binary, _>(&rotation.new_token_hash)?;
        out.push_sql(", sealed_successor = ");
        out.push_bind_param::<Binary, _>(&rotation.sealed_successor)?;
        out.push_sql(", rotated_at = ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(", expires_at = ");
        out.push_bind_param::<Moment, _>(&rotation.expires_at)?;
        // A token of an earlier rotation may live longer: the lifetime was longer then.
        out.push_sql(
            ", access_tokens_expire_at = \
             CASE WHEN access_tokens_expire_at > ",
        );
        out.push_bind_param::<Moment, _>(&rotation.access_tokens_expire_at)?;
        out.push_sql(" THEN access_tokens_expire_at ELSE ");
        out.push_bind_param::<Moment, _>(&rotation.access_tokens_expire_at)?;
        out.push_sql(" END WHERE handle_hash = ");
        out.push_bind_param::<Binary, _>(&rotation.handle_hash)?;
        out.push_sql(" AND token_hash = ");
        out.push_bind_param::<Binary, _>(&rotation.token_hash)?;
        out.push_sql(" AND revoked_at IS NULL AND expires_at > ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(" AND ends_at > ");
        out.push_bind_param::<Moment, _>(&rotation.now)?;
        out.push_sql(" RETURNING ");
        self.columns.walk_ast(out.reborrow())?;
        out.push_sql(CLAIMS);
        Ok(())
    }
}

impl Query for RotateOne {
    type SqlType = (diesel::dsl::SqlTypeOf<Columns>, Text);
}

/// [`RotateOne`] for several tokens, each against its own row.
///
/// The rows are locked one by one through the index, however large the table: `LATERAL` leaves
/// the planner no choice. It does not see how long the arrays are either: each is a SELECT of its
/// own. No plan is then cheaper for a small batch than the one that is kept, and none is made
/// again, which would cost more than the rows. The conditions are repeated in the UPDATE: for a
/// row that changed after the statement began, Postgres checks them against the newest version.
#[derive(QueryId)]
pub(super) struct RotateMany {
    /// The handles, the tokens, the new tokens, and the sealed successors.
    hashes: [Vec<[u8; 32]>; 4],
    /// The times, the new sliding ends, and the new ends of access tokens.
    times: [Vec<Timestamp>; 3],
    columns: Columns,
}

impl RotateMany {
    pub(super) fn new<'a>(rotations: impl Iterator<Item = &'a Rotation> + Clone) -> Self {
        Self {
            hashes: [
                rotations.clone().map(|one| one.handle_hash).collect(),
                rotations.clone().map(|one| one.token_hash).collect(),
                rotations.clone().map(|one| one.new_token_hash).collect(),
                rotations.clone().map(|one| one.sealed_successor).collect(),
            ],
            times: [
                rotations.clone().map(|one| one.now).collect(),
                rotations.clone().map(|one| one.expires_at).collect(),
                rotations.map(|one| one.access_tokens_expire_at).collect(),
            ],
            columns: <Session as Selectable<Pg>>::construct_selection(),
        }
    }
}

impl QueryFragment<Pg> for RotateMany {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "UPDATE sessions SET previous_token_hash = sessions.token_hash, \
             token_hash = given.new_token_hash, sealed_successor = given.sealed_successor, \
             generation = sessions.generation + 1, rotated_at = given.now, \
             expires_at = given.expires_at, access_tokens_expire_at = \
             GREATEST(sessions.access_tokens_expire_at, given.tokens_expire_at) FROM unnest(",
        );
        for hashes in &self.hashes {
            out.push_sql("(SELECT ");
            out.push_bind_param::<Array<Binary>, _>(hashes)?;
            out.push_sql("), ");
        }
        for (n, times) in self.times.iter().enumerate() {
            out.push_sql(if n == 0 { "(SELECT " } else { "), (SELECT " });
            out.push_bind_param::<Array<Moment>, _>(times)?;
        }
        out.push_sql(
            ")) AS given (handle_hash, token_hash, new_token_hash, sealed_successor, now, \
             expires_at, tokens_expire_at), \
             LATERAL (SELECT id FROM sessions WHERE handle_hash = given.handle_hash \
             FOR NO KEY UPDATE SKIP LOCKED) AS free \
             WHERE sessions.id = free.id AND sessions.token_hash = given.token_hash \
             AND sessions.revoked_at IS NULL AND sessions.expires_at > given.now \
             AND sessions.ends_at > given.now RETURNING ",
        );
        self.columns.walk_ast(out.reborrow())?;
        out.push_sql(CLAIMS);
        Ok(())
    }
}

impl Query for RotateMany {
    type SqlType = (diesel::dsl::SqlTypeOf<Columns>, Text);
}
