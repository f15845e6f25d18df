//! The rows of a stream, in batches, and its end.

use std::{iter, time::Duration};

use futures::{FutureExt as _, future::OptionFuture};
use prost_types::Timestamp as ProtoTimestamp;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Status, Streaming};
use zeroize::Zeroizing;

use super::OVERLOADED;
use crate::{
    auth::{Error, IMPORT_BATCH},
    grpc::{convert, layer::unreadable, server::LongStream},
    model::{ImportRow, Rejection, Timestamp},
    proto,
};

/// The end of a stream.
pub enum End {
    /// The client has sent all its rows.
    Complete,
    Failed(Error),
    /// The client is gone.
    Abandoned,
}

/// When a stream must end, and what it holds until then.
pub struct StreamLimits {
    pub deadline: Option<Instant>,
    pub longest_silence: Duration,
    pub stream: LongStream,
    pub permit: OwnedSemaphorePermit,
}

impl StreamLimits {
    /// Waits for something, at most until the stream must end.
    pub async fn until_end<T>(&self, needed: impl Future<Output = T>) -> Result<T, End> {
        let late = OptionFuture::from(self.deadline.map(sleep_until));
        tokio::select! {
            // The deadline comes first: otherwise a row that is here already would win against it.
            biased;
            () = self.stream.must_end() => Err(End::Failed(OVERLOADED)),
            Some(()) = late => Err(End::Failed(Error::DeadlineExceeded)),
            done = needed => Ok(done),
        }
    }

    /// Waits for the client too, which may be silent for a while.
    pub async fn until_silent<T>(&self, of_client: impl Future<Output = T>) -> Result<T, End> {
        let heard = timeout(self.longest_silence, of_client);
        let heard = self.until_end(heard).await?;
        heard.map_err(|_| End::Failed(Error::DeadlineExceeded))
    }
}

/// `Err` if a value of the message has no form in the model.
type Row = Result<ImportRow, Rejection>;

pub struct Rows {
    messages: Streaming<proto::ImportUser>,
    pub limits: StreamLimits,
    /// Known since the last batch.
    end: Option<End>,
}

impl Rows {
    pub const fn new(messages: Streaming<proto::ImportUser>, limits: StreamLimits) -> Self {
        Self {
            messages,
            limits,
            end: None,
        }
    }

    /// Waits for a row.
    pub async fn next(&mut self) -> Result<Row, End> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        let message = self.limits.until_silent(self.messages.message()).await?;
        received(message).map(parse)
    }

    /// The row with those that have arrived after it, at most a batch.
    pub fn arrived(&mut self, first: Row) -> impl Iterator<Item = Row> {
        let others = iter::from_fn(|| {
            let message = self.messages.message().now_or_never()?;
            let row = received(message).map(parse);
            row.map_err(|end| self.end = Some(end)).ok()
        });
        iter::once(first).chain(others).take(IMPORT_BATCH)
    }
}

fn received(message: Result<Option<proto::ImportUser>, Status>) -> Result<proto::ImportUser, End> {
    match message {
        Ok(row) => row.ok_or(End::Complete),
        Err(status) => Err(match unreadable(&status) {
            Some(error) => End::Failed(error),
            // By the request-body budget.
            None if status.code() == Code::ResourceExhausted => End::Failed(OVERLOADED),
            None => End::Abandoned,
        }),
    }
}

fn parse(message: proto::ImportUser) -> Row {
    let password_hash = Zeroizing::new(message.password_hash);
    Ok(ImportRow {
        user_id: message.user_id,
        email: message.email,
        password_hash,
        email_verified_at: time("email_verified_at", message.email_verified_at)?,
        created_at: time("created_at", message.created_at)?,
        roles: message.roles,
    })
}

fn time(field: &'static str, time: Option<ProtoTimestamp>) -> Result<Option<Timestamp>, Rejection> {
    let time = time.map(convert::moment).transpose();
    time.map_err(|problem| Rejection::invalid(field, problem))
}
