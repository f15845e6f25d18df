use tokio::time::Instant;
use tonic::Status;

use crate::{
    auth::Error,
    model::UserId,
    telemetry::audit::{Audit, Context, Event, Reason},
};

/// The audit line of a call that has not ended.
pub struct Attempt {
    pub event: Event,
    pub context: Context,
    pub user_id: Option<UserId>,
    /// `None` for a stream whose caller set none.
    pub deadline: Option<Instant>,
    has_ended: bool,
}

impl Attempt {
    pub const fn begin(event: Event, context: Context, deadline: Option<Instant>) -> Self {
        Self {
            event,
            context,
            user_id: None,
            deadline,
            has_ended: false,
        }
    }

    pub fn audit(&self) -> Audit<'_> {
        Audit::of(self.event, &self.context).user(self.user_id)
    }

    /// Audits an error that nothing else writes to the log.
    pub fn end<T>(mut self, outcome: Result<T, Error>) -> Result<T, Status> {
        self.has_ended = true;
        outcome.map_err(|error| {
            // Whether an act of an administrator took place is not known after a fault.
            let is_fault = matches!(error, Error::Internal(_)) && self.event.is_administration();
            let reason = refusal(&error).or_else(|| is_fault.then_some(Reason::Fault));
            if let Some(reason) = reason {
                self.audit().failed(reason);
            }
            Status::from(error)
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            let is_late = self.deadline.is_some_and(|it| Instant::now() >= it);
            let reason = if is_late {
                Reason::DeadlineExceeded
            } else {
                Reason::Abandoned
            };
            self.audit().failed(reason);
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
        | Error::EmailNotVerified
        | Error::AccountSuspended { .. }
        | Error::UserNotFound
        | Error::VersionConflict
        | Error::MailRequestNotFound
        | Error::PermissionDenied
        | Error::PlaintextKeys
        | Error::TooManyAttempts { .. }
        // `status` logs the fault.
        | Error::Internal(_)
        // Every client that was away for long has such a token.
        | Error::SessionEnded => None,
    }
}
