//! The rotation of refresh tokens: compare-and-set in one statement.

pub(in crate::db) mod batch;
mod statement;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, info_span};

use self::{
    batch::Entry,
    statement::{RotateOne, Rotated, refreshable},
};
use crate::{
    db::{Db, Error, with_conn},
    model::{Refreshable, Timestamp},
    telemetry::SPANS,
};

#[derive(Clone)]
pub struct Rotation {
    /// SHA-256 of the presented token's handle.
    pub handle_hash: [u8; 32],
    /// SHA-256 of the presented token's secret.
    pub token_hash: [u8; 32],
    /// SHA-256 of the next secret.
    pub new_token_hash: [u8; 32],
    /// The next secret, sealed with the presented one.
    pub sealed_successor: [u8; 32],
    pub now: Timestamp,
    /// The new sliding end.
    pub expires_at: Timestamp,
    /// No access token that is issued for this rotation or a retry of it expires later.
    pub access_tokens_expire_at: Timestamp,
}

impl Db {
    /// Rotates the token if it is the current one of a live session. If many calls rotate one
    /// token at the same time, exactly one succeeds.
    pub async fn rotate(&self, rotation: &Rotation) -> Result<Option<Refreshable>, Error> {
        let deadline = Instant::now() + self.timeout;
        let alone = self.rotate_alone(rotation, deadline);
        match self.batches.as_ref().map(|batches| batches.enter(rotation)) {
            None => alone.await,
            Some(Entry::InFlight(slot)) => slot.hold_during(alone).await,
            Some(Entry::Queued(answer)) => {
                match timeout(self.timeout / 2, answer.instrument(batch_span())).await {
                    Ok(Ok(session)) => Ok(Some(session)),
                    // If only the answer of the batch was lost, the caller finds its own new
                    // token in the row.
                    Ok(Err(_)) | Err(_) => alone.await,
                }
            }
        }
    }

    async fn rotate_alone(
        &self,
        rotation: &Rotation,
        deadline: Instant,
    ) -> Result<Option<Refreshable>, Error> {
        let rotated: Option<Rotated> = with_conn!(self, deadline, conn => {
            RotateOne::new(rotation)
                .get_result(conn)
                .await
                .optional()?
        })?;
        Ok(rotated.map(refreshable))
    }
}

/// The span of a call that waits for a batch, whose statement belongs to several calls.
fn batch_span() -> Span {
    info_span!(target: SPANS, "sql", otel.name = "rotate_together", otel.kind = "client")
}
