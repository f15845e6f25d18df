//! Password hashes that have another seal than they should, in small steps along the primary
//! key. No step takes long or needs another one.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Db, Error, schema::users, transaction::transaction, with_conn};
use crate::model::{StoredHash, Timestamp, UserId};

/// How many rows a step reads.
const ROWS: i64 = 500;
/// How many rows are locked at the same time: a change of a password waits for at most so many.
const RESEALED_AT_ONCE: usize = 10;

/// How many sealed hashes at each end of the table show whether `DATA_KEY` is the right one.
const SAMPLE: usize = 10;
/// How far the clock of another replica may be ahead.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// How many users at each end are searched for them. A table may have millions without a seal.
const SEARCHED: i64 = 1_000;

/// A step through the users. Those without a usable password are left out.
#[derive(Default)]
pub struct StaleHashes {
    /// How many users have a hash that begins as it should.
    pub fresh: usize,
    /// The others, in the order of their ids, with their stored hashes.
    pub stale: Vec<(UserId, String)>,
    /// The last user of the step, after whom the next one starts. `None` at the end.
    pub next: Option<UserId>,
}

/// A stored hash and what replaces it.
pub struct Resealed {
    pub user_id: UserId,
    pub old: String,
    pub new: StoredHash,
}

impl Db {
    /// Sealed hashes of the users who registered last before `now`, and of those with the first
    /// ids. Ids of another system can be anywhere.
    pub async fn sealed_hashes(&self, now: Timestamp) -> Result<Vec<String>, Error> {
        with_conn!(self, conn => {
            let hashes = users::table.select(users::password_hash).limit(SEARCHED);
            let newest: Vec<String> = hashes
                .filter(users::id.lt(UserId::new(now + CLOCK_SKEW)))
                .order(users::id.desc())
                .load(conn)
                .await?;
            let oldest: Vec<String> = hashes.order(users::id).load(conn).await?;
            let sealed = |hashes: Vec<String>| {
                hashes.into_iter().filter(|stored| StoredHash::is_sealed(stored)).take(SAMPLE)
            };
            sealed(newest).chain(sealed(oldest)).collect()
        })
    }

    /// Reads the users after this one, and finds the hashes without the `prefix`.
    pub async fn stale_hashes(
        &self,
        after: Option<UserId>,
        prefix: &str,
    ) -> Result<StaleHashes, Error> {
        let after = after.unwrap_or(UserId::from_bytes([0; 16]));
        let fresh = format!("{prefix}%");
        with_conn!(self, conn => {
            let ids: Vec<UserId> = users::table
                .filter(users::id.gt(after))
                .order(users::id)
                .limit(ROWS)
                .select(users::id)
                .load(conn)
                .await?;
            let Some(last) = ids.last().copied() else { return Ok(StaleHashes::default()) };
            let mut stale: Vec<(UserId, String)> = users::table
                .filter(users::id.gt(after).and(users::id.le(last)))
                .filter(users::password_hash.not_like(&fresh))
                .order(users::id)
                .select((users::id, users::password_hash))
                .load(conn)
                .await?;
            let fresh = ids.len().saturating_sub(stale.len());
            stale.retain(|(_, stored)| !StoredHash::is_unusable(stored));
            StaleHashes { fresh, stale, next: Some(last) }
        })
    }

    /// Replaces stored hashes that have not changed meanwhile. They must be in the order of the
    /// ids, so that two replicas cannot deadlock.
    pub async fn reseal(&self, resealed: &[Resealed]) -> Result<(), Error> {
        for resealed in resealed.chunks(RESEALED_AT_ONCE) {
            with_conn!(self, conn => {
                transaction(conn, async |conn| {
                    for Resealed { user_id, old, new } in resealed {
                        diesel::update(users::table.find(user_id))
                            .filter(users::password_hash.eq(old))
                            .set(users::password_hash.eq(new))
                            .execute(conn)
                            .await?;
                    }
                    Ok::<_, Error>(())
                })
                .await?;
            })?;
        }
        Ok(())
    }
}
