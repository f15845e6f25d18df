//! Reading revocations for gateways, and deleting those that no gateway needs.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, cleanup::ROWS, schema::revocations, with_conn},
    model::{
        RecordedRevocation, Revocation, RevocationId, RevokedTokens, SessionId, Timestamp, UserId,
    },
};

/// The most revocations that one statement reads.
const PAGE: i64 = 10_000;

type Row = (
    RevocationId,
    Option<SessionId>,
    Option<UserId>,
    Option<Timestamp>,
    Timestamp,
    Timestamp,
);

impl Db {
    /// The revocations that were recorded from a time on, the first ones first, but not those whose
    /// tokens all expired before `expired`. `None` as the second value: there are no more; else
    /// the time from which the next page begins, which may repeat some.
    pub async fn revocations_from(
        &self,
        from: Timestamp,
        expired: Timestamp,
    ) -> Result<(Vec<RecordedRevocation>, Option<Timestamp>), Error> {
        let rows: Vec<Row> = with_conn!(self, conn => {
            revocations::table
                .filter(revocations::recorded_at.ge(from))
                .filter(revocations::until.ge(expired))
                .order(revocations::recorded_at)
                .limit(PAGE)
                .select((
                    revocations::id,
                    revocations::session_id,
                    revocations::user_id,
                    revocations::issued_before,
                    revocations::until,
                    revocations::recorded_at,
                ))
                .load(conn)
                .await?
        })?;
        let is_full = i64::try_from(rows.len()) == Ok(PAGE);
        let next = rows.last().filter(|_| is_full).map(|row| row.5);
        Ok((rows.into_iter().filter_map(recorded).collect(), next))
    }

    /// Deletes some of the revocations whose tokens all expired before `expired`, and returns their
    /// number: 0 if there are no more.
    pub async fn delete_revocations(&self, expired: Timestamp) -> Result<usize, Error> {
        with_conn!(self, conn => {
            let ids: Vec<RevocationId> = revocations::table
                .filter(revocations::until.lt(expired))
                .order(revocations::until)
                .limit(ROWS)
                .select(revocations::id)
                .load(conn)
                .await?;
            diesel::delete(revocations::table)
                .filter(revocations::id.eq_any(ids))
                .execute(conn)
                .await?
        })
    }
}

/// `None` for a row that no release writes.
fn recorded(row: Row) -> Option<RecordedRevocation> {
    let (id, session_id, user_id, issued_before, until, recorded_at) = row;
    let tokens = match (session_id, user_id.zip(issued_before)) {
        (Some(id), _) => RevokedTokens::Session(id),
        (None, Some((id, before))) => RevokedTokens::User(id, before),
        (None, None) => return None,
    };
    Some(RecordedRevocation {
        id,
        revocation: Revocation { tokens, until },
        recorded_at,
    })
}
