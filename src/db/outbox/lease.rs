//! The lease of the one replica that publishes events. The database's clock decides when it
//! ends, so replicas need not agree on the time.

use std::time::Duration;

use diesel::{dsl::sql, prelude::*};
use diesel_async::RunQueryDsl;

use crate::{
    db::{Db, Error, Pools, schema::outbox_lease, sql_types::Moment, with_conn},
    model::{ReplicaId, Timestamp},
};

/// Microseconds since 1970, as in the columns of time.
const SQLITE_NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

impl Db {
    /// Takes the lease or renews it for `ttl`. False if another replica holds it.
    pub async fn hold_lease(&self, owner: ReplicaId, ttl: Duration) -> Result<bool, Error> {
        let (now, until) = match &self.pools {
            Pools::Postgres(_) => (
                "now()",
                format!("now() + interval '{} milliseconds'", ttl.as_millis()),
            ),
            Pools::Sqlite(_) => (SQLITE_NOW, format!("{SQLITE_NOW} + {}", ttl.as_micros())),
        };
        with_conn!(self, conn => {
            let has_ended = outbox_lease::expires_at.le(sql::<Moment>(now));
            diesel::update(outbox_lease::table)
                .filter(outbox_lease::owner.eq(owner).or(has_ended))
                .set((
                    outbox_lease::owner.eq(owner),
                    outbox_lease::expires_at.eq(sql::<Moment>(&until)),
                ))
                .execute(conn)
                .await? > 0
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
