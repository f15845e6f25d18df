//! The one mapping from errors to `Status`: a code, a constant text, and
//! `google.rpc.ErrorInfo` with a reason for programs to branch on.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::{
    auth::{Error, Fault},
    telemetry::{Causes, LIMITED},
};

const DOMAIN: &str = "auth.realchat";

/// `RetryInfo` after a database fault: about as long as a failover takes.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = match error {
            Error::InvalidArgument { .. } => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            Error::EmailTaken => (Code::AlreadyExists, "EMAIL_TAKEN"),
            Error::InvalidCredentials => (Code::Unauthenticated, "INVALID_CREDENTIALS"),
            Error::EmailNotVerified => (Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"),
            Error::AccountSuspended { .. } => (Code::PermissionDenied, "ACCOUNT_SUSPENDED"),
            Error::UserNotFound => (Code::NotFound, "USER_NOT_FOUND"),
            Error::VersionConflict => (Code::Aborted, "VERSION_CONFLICT"),
            Error::InvalidToken | Error::SessionEnded => (Code::Unauthenticated, "INVALID_TOKEN"),
            Error::MailRequestNotFound => (Code::NotFound, "MAIL_REQUEST_NOT_FOUND"),
            Error::PermissionDenied | Error::PlaintextKeys => {
                (Code::PermissionDenied, "PERMISSION_DENIED")
            }
            Error::TooManyAttempts { .. } => (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"),
            Error::Overloaded { .. } => (Code::ResourceExhausted, "OVERLOADED"),
            Error::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Error::Internal(_) => (Code::Internal, "INTERNAL"),
        };
        let mut details = ErrorDetails::new();
        let mut metadata = HashMap::new();
        if let Error::AccountSuspended { until: Some(until) } = &error {
            metadata.insert("until".to_owned(), until.to_string());
        }
        details.set_error_info(reason, DOMAIN, metadata);
        match &error {
            Error::InvalidArgument { field, problem } => {
                details.add_bad_request_violation(*field, problem);
            }
            Error::TooManyAttempts { retry_after } | Error::Overloaded { retry_after } => {
                details.set_retry_info(Some(*retry_after));
            }
            Error::Internal(fault) => {
                // The only place that logs the fault of a call.
                error!(name: LIMITED, reason = fault.word(), "{}", Causes(fault));
                if matches!(fault, Fault::Database(_)) {
                    details.set_retry_info(Some(RETRY_AFTER_FAULT));
                }
            }
            Error::EmailTaken
            | Error::InvalidCredentials
            | Error::EmailNotVerified
            | Error::AccountSuspended { .. }
            | Error::UserNotFound
            | Error::VersionConflict
            | Error::InvalidToken
            | Error::SessionEnded
            | Error::MailRequestNotFound
            | Error::PermissionDenied
            | Error::PlaintextKeys
            | Error::DeadlineExceeded => {}
        }
        Self::with_error_details(code, error.to_string(), details)
    }
}
