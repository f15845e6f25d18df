use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Key;
use crate::db::{schema::login_throttle, steps::steps};

steps! {
    trait Clear;

    /// Forgets all failures. The row stays, so an attempt that is counted at the same time does
    /// not write it back.
    async fn clear_counters(&mut self, keys: &[Key]) -> QueryResult<()> {
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        diesel::update(login_throttle::table)
            .filter(login_throttle::key_hash.eq_any(&keys))
            .set((
                login_throttle::revision.eq(login_throttle::revision + 1),
                login_throttle::free_from.eq(0),
                login_throttle::failed_at.eq(0),
                login_throttle::day_failures.eq(0),
                login_throttle::day_ends_at.eq(0),
            ))
            .execute(self)
            .await?;
        Ok(())
    }
}
