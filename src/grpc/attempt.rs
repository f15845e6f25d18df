//! Audits the attempts that end before a use case knows what to write: refused ones, and those
//! that the caller or the deadline cut off. The use cases audit all others themselves, because
//! they know the user.

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::layer::Deadline;
use crate::{
    auth::{Caller, Error},
    telemetry::audit::{Audit, Event, Reason},
};

/// One call, from its handler's start to its end.
pub(super) struct Attempt<'a> {
    audit: Audit<'a>,
    deadline: Instant,
    has_ended: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin<T>(event: Event, service: Option<&'a str>, request: &Request<T>) -> Self {
        Self {
            audit: Audit::of(event).caller(service),
            deadline: Deadline::of(request.extensions()),
            has_ended: false,
        }
    }

    pub(super) fn by(&mut self, user: &Caller) {
        self.audit = self.audit.user(user.account.user_id);
    }

    pub(super) fn end<T>(mut self, outcome: Result<T, Error>) -> Result<Response<T>, Status> {
        self.has_ended = true;
        let reply = outcome.map_err(|error| {
            if let Some(reason) = refusal(&error) {
                self.audit.failed(reason);
            }
            Status::from(error)
        });
        reply.map(Response::new)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let is_late = Instant::now() >= self.deadline;
            let reason = if is_late {
                Reason::DeadlineExceeded
            } else {
                Reason::Abandoned
            };
            self.audit.failed(reason);
        }
    }
}

/// The reason of an error that nothing else writes to the log.
const fn refusal(error: &Error) -> Option<Reason> {
    match error {
        Error::InvalidArgument { .. } => Some(Reason::InvalidArgument),
        Error::InvalidToken => Some(Reason::InvalidToken),
        Error::Overloaded { .. } => Some(Reason::Overloaded),
        Error::DeadlineExceeded => Some(Reason::DeadlineExceeded),
        Error::EmailTaken
        | Error::InvalidCredentials
        | Error::PermissionDenied
        | Error::PlaintextKeys
        | Error::TooManyAttempts { .. }
        // `status` logs the fault.
        | Error::Internal(_)
        // Every client that was away for long has such a token.
        | Error::SessionEnded => None,
    }
}
