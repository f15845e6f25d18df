use crate::{
    db::{Db, Error, revocations::Steps as _, transaction::transaction, with_conn},
    model::{Act, SessionEnd, UserId},
};

impl Db {
    /// Ends all sessions of a user and returns their number. `None` if the user is unknown.
    pub async fn end_all_sessions(
        &self,
        user_id: UserId,
        end: SessionEnd,
        act: &Act,
    ) -> Result<Option<usize>, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let Some(version) = conn.lock_user(user_id).await? else { return Ok(None) };
                let ended = conn.end_sessions(user_id, None, end, act).await?;
                let events: Vec<_> = ended.iter().collect();
                conn.write_events(user_id, version, &events).await?;
                Ok::<_, Error>(Some(ended.len()))
            })
            .await?
        })
    }
}
