//! `ImportUsers`: a stream of rows, and the stream of their results.
//!
//! Rows that have arrived are imported together: a client that waits for each result gets it at
//! once, and a fast one fills batches. After an error, the rows before it are imported and their
//! results are sent first.

mod rows;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use http::Extensions;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use self::rows::{End, Limits, Rows};
use super::{Handlers, Scope, audited_call::Attempt, layer::Deadline, server::LongStream};
use crate::{
    auth::{Error, Import},
    model::Imported,
    proto::{self, ImportStatus},
    telemetry::audit::Event,
};

/// The memory of an import is bounded, so their number is too.
const MAX_IMPORTS: usize = 16;
const OVERLOADED: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

pub type ImportResults = BoxStream<'static, Result<proto::ImportResult, Status>>;

/// The limits of the streams.
pub struct Imports {
    free: Arc<Semaphore>,
    longest_silence: Duration,
}

impl Imports {
    /// A stream without a row for `longest_silence` ends.
    pub fn new(longest_silence: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_IMPORTS)),
            longest_silence,
        }
    }

    fn admit(&self, extensions: &Extensions) -> Result<Limits, Error> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        Ok(Limits {
            _permit: permit.map_err(|_| OVERLOADED)?,
            stream: LongStream::begin(extensions)?,
            deadline: Deadline::of_stream(extensions),
            longest_silence: self.longest_silence,
        })
    }
}

impl Handlers {
    pub(super) fn begin_import(
        &self,
        request: Request<Streaming<proto::ImportUser>>,
    ) -> Result<Response<ImportResults>, Status> {
        let mut audited = self.audited(Event::ImportUsers, &request);
        let call = audited.admin_call(Scope::Import, &request);
        let admitted = call.and_then(|call| Ok((call, self.imports.admit(request.extensions())?)));
        let (call, limits) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return audited.end(Err(error)),
        };
        let running = Running {
            attempt: audited.into_attempt(limits.deadline),
            import: Import::begin(Arc::clone(&self.admin), call),
            rows: Rows::new(request.into_inner(), limits),
            next_index: 0,
        };
        Ok(Response::new(running.results()))
    }
}

struct Running {
    rows: Rows,
    import: Import,
    attempt: Attempt,
    next_index: i64,
}

impl Running {
    fn results(self) -> ImportResults {
        let batches = stream::unfold(Some(Box::new(self)), async |running| {
            let mut running = running?;
            match running.batch().await {
                Ok(results) => Some((Ok(results), Some(running))),
                Err(end) => running.end(end).map(|status| (Err(status), None)),
            }
        });
        let results = batches.map_ok(|results| stream::iter(results).map(Ok));
        results.try_flatten().boxed()
    }

    async fn batch(&mut self) -> Result<Vec<proto::ImportResult>, End> {
        // More rows arrive meanwhile.
        self.import.rest().await;
        let rows = self.rows.batch().await?;
        let imported = self.import.batch(rows).await.map_err(End::Failed)?;
        let results = (self.next_index..).zip(imported);
        let results: Vec<_> = results.map(|(index, row)| describe(index, row)).collect();
        self.next_index = results.last().map_or(0, |last| last.index + 1);
        Ok(results)
    }

    /// Audits the end. Returns the error to send, if there is one.
    fn end(self, end: End) -> Option<Status> {
        match end {
            End::Complete => {
                self.import.end();
                self.attempt.end(Ok(())).err()
            }
            End::Failed(error) => self.attempt.end::<()>(Err(error)).err(),
            End::Broken(status) => Some(status),
        }
    }
}

fn describe(index: i64, row: Imported) -> proto::ImportResult {
    let (status, user_id, reason) = match row {
        Imported::Created(id) => (ImportStatus::Created, id.to_string(), String::new()),
        Imported::Unchanged(id) => (ImportStatus::Unchanged, id.to_string(), String::new()),
        Imported::Rejected(reason) => (ImportStatus::Rejected, String::new(), reason.to_string()),
    };
    proto::ImportResult {
        index,
        user_id,
        status: status.into(),
        reason,
    }
}
