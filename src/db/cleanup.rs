//! Deleting rows that are no longer needed, in small steps along the primary key, so that no
//! statement takes long.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Db, Error,
    schema::{login_throttle, mail_requests, sessions},
    with_conn,
};
use crate::model::{Forgotten, MailRequestId, SessionId, Timestamp};

/// How many rows a step reads.
pub(super) const ROWS: i64 = 500;

#[derive(Debug)]
pub struct Step<Position> {
    pub deleted: usize,
    /// The last row that was read, after which the next step starts. `None` at the end.
    pub next: Option<Position>,
}

impl Db {
    /// Reads the sessions after this one and deletes those that ended before `ended_before`.
    pub async fn delete_ended_sessions(
        &self,
        after: Option<SessionId>,
        ended_before: Timestamp,
    ) -> Result<Step<SessionId>, Error> {
        let after = after.unwrap_or(SessionId::from_bytes([0; 16]));
        with_conn!(self, conn => {
            let mut ids: Vec<SessionId> = sessions::table
                .filter(sessions::id.gt(after))
                .order(sessions::id)
                .limit(ROWS)
                .select(sessions::id)
                .load(conn)
                .await?;
            let Some(last) = ids.pop() else { return Ok(Step { deleted: 0, next: None }) };
            let deleted = diesel::delete(sessions::table)
                .filter(sessions::id.gt(after))
                .filter(sessions::id.le(last))
                .filter(
                    sessions::revoked_at
                        .lt(ended_before)
                        .assume_not_null()
                        .or(sessions::expires_at.lt(ended_before))
                        .or(sessions::ends_at.lt(ended_before)),
                )
                .execute(conn)
                .await?;
            Step { deleted, next: Some(last) }
        })
    }

    /// Reads the mail requests after this one and deletes those whose last token has expired, and
    /// those without an account.
    pub async fn delete_expired_mails(
        &self,
        after: Option<MailRequestId>,
        now: Timestamp,
    ) -> Result<Step<MailRequestId>, Error> {
        let after = after.unwrap_or(MailRequestId::from_bytes([0; 16]));
        with_conn!(self, conn => {
            let mut ids: Vec<MailRequestId> = mail_requests::table
                .filter(mail_requests::id.gt(after))
                .order(mail_requests::id)
                .limit(ROWS)
                .select(mail_requests::id)
                .load(conn)
                .await?;
            let Some(last) = ids.pop() else { return Ok(Step { deleted: 0, next: None }) };
            let deleted = diesel::delete(mail_requests::table)
                .filter(mail_requests::id.gt(after))
                .filter(mail_requests::id.le(last))
                .filter(mail_requests::expires_at.lt(now).or(mail_requests::user_id.is_null()))
                .execute(conn)
                .await?;
            Step { deleted, next: Some(last) }
        })
    }

    /// Reads the throttle counters after this one and deletes those of which nothing is left.
    /// The conditions are checked again against the newest version of a row, so a failure that
    /// is counted at the same time is not lost.
    pub async fn delete_forgotten_counters(
        &self,
        after: Option<Vec<u8>>,
        forgotten: Forgotten,
    ) -> Result<Step<Vec<u8>>, Error> {
        let after = after.unwrap_or_default();
        let [day_failure, free] = [forgotten.day_failure, forgotten.free]
            .map(|time| i64::try_from(time.as_micros()).expect("at most a day"));
        with_conn!(self, conn => {
            let mut keys: Vec<Vec<u8>> = login_throttle::table
                .filter(login_throttle::key_hash.gt(&after))
                .order(login_throttle::key_hash)
                .limit(ROWS)
                .select(login_throttle::key_hash)
                .load(conn)
                .await?;
            let Some(last) = keys.pop() else { return Ok(Step { deleted: 0, next: None }) };
            let deleted = diesel::delete(login_throttle::table)
                .filter(login_throttle::key_hash.gt(&after))
                .filter(login_throttle::key_hash.le(&last))
                .filter(login_throttle::free_from.le(forgotten.free_from.as_micros()))
                .filter(login_throttle::failed_at.le(forgotten.failed_at.as_micros())
                    .or(login_throttle::free_from.le(login_throttle::failed_at + free)))
                .filter((login_throttle::day_ends_at + login_throttle::day_failures * day_failure)
                    .le(forgotten.day_ends_at.as_micros()))
                // An older version wrote these rows.
                .filter(login_throttle::known_until.le(forgotten.free_from.as_micros()))
                .execute(conn)
                .await?;
            Step { deleted, next: Some(last) }
        })
    }
}
