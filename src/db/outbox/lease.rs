//! The lease of the one replica that publishes events. The database's clock decides when it
//! ends, so replicas need not agree on the time.

use std::time::Duration;

use diesel::{dsl::sql, prelude::*};
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, schema::outbox_lease, sql_types::Moment, with_conn},
    model::{ReplicaId, Timestamp},
};

/// A distributed database has several clocks. A lease that a slightly fast one wrote must still
/// count as valid.
const CLOCK_SKEW: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Held,
    /// Held now. Another replica had a lease that ended later than any lease can: the database's
    /// clock was ahead when it was written.
    TakenFromTheFuture,
    /// Another replica holds it.
    Refused,
}

impl Db {
    /// Takes the lease or renews it for `ttl`.
    ///
    /// The clock is read when the row is locked. The time of the transaction's start may be
    /// earlier than that of the renewal that it waited for.
    pub async fn hold_lease(&self, owner: ReplicaId, ttl: Duration) -> Result<Hold, Error> {
        let (now, until) = (self.sql_now(), self.sql_now_and(ttl));
        let latest = self.sql_now_and(ttl + CLOCK_SKEW);
        with_conn!(self, conn => {
            let taken = (
                outbox_lease::owner.eq(owner),
                outbox_lease::expires_at.eq(sql::<Moment>(&until)),
            );
            let has_ended = outbox_lease::expires_at.le(sql::<Moment>(now));
            let held = diesel::update(outbox_lease::table)
                .filter(outbox_lease::owner.eq(owner).or(has_ended))
                .set(taken.clone())
                .execute(conn)
                .await?;
            if held > 0 {
                return Ok(Hold::Held);
            }
            let held = diesel::update(outbox_lease::table)
                .filter(outbox_lease::expires_at.gt(sql::<Moment>(&latest)))
                .set(taken)
                .execute(conn)
                .await?;
            if held > 0 { Hold::TakenFromTheFuture } else { Hold::Refused }
        })
    }

    /// Gives the lease up, so that another replica can take it at once.
    pub async fn release_lease(&self, owner: ReplicaId) -> Result<(), Error> {
        with_conn!(self, conn => {
            diesel::update(outbox_lease::table)
                .filter(outbox_lease::owner.eq(owner))
                .set(outbox_lease::expires_at.eq(Timestamp::from_micros(0)))
                .execute(conn)
                .await?;
        })
    }
}
