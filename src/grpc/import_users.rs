//! `ImportUsers`: a stream of rows, and the stream of their results.
//!
//! Rows that have arrived are imported together: a client that waits for each result gets it at
//! once, and a fast one fills batches. After an error, the rows before it are imported and their
//! results are sent first.
//!
//! A task of its own imports: hyper does not poll the body of an answer while the client reads
//! nothing, and then nobody would look at the limits of the stream. The end of the import is the
//! body's, which is dropped when the client is gone.

mod rows;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use http::Extensions;
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
    time::sleep,
};
use tonic::{Request, Response, Status, Streaming};

use self::rows::{End, Rows, StreamLimits};
use super::{
    Handlers, Scope,
    audited_call::Attempt,
    layer::{Deadline, Spans},
    server::LongStream,
};
use crate::{
    auth::{Error, Import},
    model::Imported,
    proto::{self, ImportStatus},
    telemetry::audit::Event,
};

/// They take turns, so more of them would not be faster.
const MAX_IMPORTS: usize = 4;
/// When the service stops, the client has this time to read the end.
const LAST_READ: Duration = Duration::from_secs(2);
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
    /// A stream whose client sends no row or reads no result for `longest_silence` ends.
    pub fn new(longest_silence: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_IMPORTS)),
            longest_silence,
        }
    }

    fn admit(&self, extensions: &Extensions) -> Result<StreamLimits, Error> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        Ok(StreamLimits {
            permit: permit.map_err(|_| OVERLOADED)?,
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
        let attempt = audited.into_attempt(limits.deadline);
        let spans = Spans::of(request.extensions());
        let (steps, received) = mpsc::channel(1);
        let running = Running {
            import: Import::begin(Arc::clone(&self.admin), call),
            rows: Rows::new(request.into_inner(), limits),
            steps,
            next_index: 0,
        };
        tokio::spawn(spans.instrument(running.run()));
        Ok(Response::new(answer(received, attempt)))
    }
}

/// A message from the task of an import to the body of its answer.
enum Step {
    Results(Vec<proto::ImportResult>),
    Ended(Import, End),
}

struct Running {
    rows: Rows,
    import: Import,
    steps: mpsc::Sender<Step>,
    next_index: i64,
}

impl Running {
    async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.batch().await {
                break end;
            }
        };
        let StreamLimits {
            stream,
            permit,
            longest_silence,
            ..
        } = self.rows.limits;
        // Other imports need not wait until the client has read the end.
        drop(permit);
        let ended = Step::Ended(self.import, end);
        let read = async {
            // It fails if the client is gone.
            self.steps.send(ended).await.ok();
            self.steps.closed().await;
        };
        let stopped = async {
            stream.must_end().await;
            sleep(LAST_READ).await;
        };
        tokio::select! {
            () = read => {}
            () = stopped => stream.close_connection(),
            () = sleep(longest_silence) => stream.close_connection(),
        }
    }

    /// Waits for a place for results first: no row is imported whose result cannot be sent.
    async fn batch(&mut self) -> Result<(), End> {
        let limits = &self.rows.limits;
        let place = limits.until_silent(self.steps.reserve()).await?;
        let place = place.map_err(|_| End::Abandoned)?;
        let first = self.rows.next().await?;
        let turn = async {
            tokio::select! {
                turn = self.import.turn() => Ok(turn),
                () = self.steps.closed() => Err(End::Abandoned),
            }
        };
        let turn = self.rows.limits.until_end(turn).await??;
        let rows = self.rows.arrived(first);
        let checked = rows.map(|row| self.import.check(row)).collect();
        let imported = self.import.batch(checked, turn).await;
        let results = imported.map_err(End::Failed)?.into_iter().map(|row| {
            let index = self.next_index;
            self.next_index += 1;
            describe(index, row)
        });
        place.send(Step::Results(results.collect()));
        Ok(())
    }
}

/// If it is dropped before its end, the import is audited as abandoned.
fn answer(steps: mpsc::Receiver<Step>, attempt: Attempt) -> ImportResults {
    let batches = stream::unfold(Some((steps, attempt)), async |running| {
        let (mut steps, attempt) = running?;
        match steps.recv().await.expect("the end is the last step") {
            Step::Results(results) => Some((Ok(results), Some((steps, attempt)))),
            Step::Ended(import, end) => {
                // tonic shows a stream that its client has reset as one that has ended. hyper
                // looks for a reset before it polls again, and drops this body.
                yield_now().await;
                end_of(import, attempt, end).map(|status| (Err(status), None))
            }
        }
    });
    let results = batches.map_ok(|results| stream::iter(results).map(Ok));
    results.try_flatten().boxed()
}

/// Audits the end. Returns the error to send, if there is one.
fn end_of(import: Import, attempt: Attempt, end: End) -> Option<Status> {
    match end {
        End::Complete => {
            import.end();
            attempt.end(Ok(())).err()
        }
        End::Failed(error) => attempt.end::<()>(Err(error)).err(),
        End::Abandoned => Some(Status::cancelled("")),
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
