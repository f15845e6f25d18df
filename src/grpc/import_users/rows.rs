//! The rows of a stream, in batches, and its end.

use std::time::Duration;

use futures::FutureExt as _;
use prost::Message as _;
use prost_types::Timestamp as ProtoTimestamp;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tonic::{Code, Status, Streaming};
use zeroize::Zeroizing;

use super::OVERLOADED;
use crate::{
    auth::{Error, IMPORT_BATCH, ReceivedRow},
    grpc::{convert, layer::unreadable, server::LongStream},
    model::{ImportRow, Rejection, Timestamp},
    proto,
};

/// A batch ends with the row that exceeds it. Rows take about 200 bytes.
const BATCH_BYTES: usize = 128 * 1024;

/// The end of a stream.
pub enum End {
    /// The client has sent all its rows.
    Complete,
    Failed(Error),
    /// The client is gone.
    Broken(Status),
}

/// When a stream must end, and what it holds until then.
pub struct Limits {
    pub deadline: Option<Instant>,
    pub longest_silence: Duration,
    pub stream: LongStream,
    pub _permit: OwnedSemaphorePermit,
}

pub struct Rows {
    messages: Streaming<proto::ImportUser>,
    limits: Limits,
    /// Known since the last batch.
    end: Option<End>,
}

impl Rows {
    pub const fn new(messages: Streaming<proto::ImportUser>, limits: Limits) -> Self {
        Self {
            messages,
            limits,
            end: None,
        }
    }

    /// Waits for a row, and takes those that have arrived with it.
    pub async fn batch(&mut self) -> Result<Vec<ReceivedRow>, End> {
        let first = self.wait().await?;
        let mut bytes = first.encoded_len();
        let mut rows = vec![parse(first)];
        while rows.len() < IMPORT_BATCH && bytes < BATCH_BYTES {
            match self.messages.message().now_or_never().map(received) {
                Some(Ok(row)) => {
                    bytes += row.encoded_len();
                    rows.push(parse(row));
                }
                Some(Err(end)) => {
                    self.end = Some(end);
                    break;
                }
                None => break,
            }
        }
        Ok(rows)
    }

    async fn wait(&mut self) -> Result<proto::ImportUser, End> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        let limits = &self.limits;
        let silent = Instant::now() + limits.longest_silence;
        let until = limits.deadline.map_or(silent, |it| it.min(silent));
        // A row that has arrived would win against the timer.
        if until <= Instant::now() {
            return Err(End::Failed(Error::DeadlineExceeded));
        }
        tokio::select! {
            biased;
            () = limits.stream.must_end() => Err(End::Failed(OVERLOADED)),
            row = timeout_at(until, self.messages.message()) => {
                row.map_or(Err(End::Failed(Error::DeadlineExceeded)), received)
            }
        }
    }
}

fn received(message: Result<Option<proto::ImportUser>, Status>) -> Result<proto::ImportUser, End> {
    match message {
        Ok(row) => row.ok_or(End::Complete),
        Err(status) => Err(match unreadable(&status) {
            Some(error) => End::Failed(error),
            // By the request-body budget.
            None if status.code() == Code::ResourceExhausted => End::Failed(OVERLOADED),
            None => End::Broken(status),
        }),
    }
}

fn parse(message: proto::ImportUser) -> ReceivedRow {
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
