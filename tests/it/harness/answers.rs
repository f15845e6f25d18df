//! Reads the answers of the service.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The error of a call that must fail. (`unwrap_err` would need messages with `Debug`.)
pub fn refused<T>(answer: Result<T, Status>) -> Status {
    match answer {
        Ok(_) => panic!("the call must be refused"),
        Err(status) => status,
    }
}

/// Code and reason of an error. Fails if the error does not come from the service.
pub fn reason(status: &Status) -> (Code, String) {
    let info = status
        .get_details_error_info()
        .expect("every error has ErrorInfo");
    assert_eq!(info.domain, "auth.realchat");
    (status.code(), info.reason)
}

/// Code, reason and text of an error from the service, in one line.
pub fn error_line(status: &Status) -> String {
    let (code, reason) = reason(status);
    format!("{code:?} {reason}: {}", status.message())
}

pub fn assert_invalid_token(status: &Status) {
    assert_eq!(
        error_line(status),
        "Unauthenticated INVALID_TOKEN: the token is not valid"
    );
}

/// The answer while the database fails.
pub fn assert_outage(status: &Status) {
    assert_eq!(error_line(status), "Internal INTERNAL: internal error");
    assert_eq!(retry_after(status), Some(Duration::from_secs(1)));
}

pub fn assert_wrong_password(status: &Status) {
    let expected = (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned());
    assert_eq!(reason(status), expected);
}

/// The one wrong field of a request, and what is wrong with it.
pub fn violation(status: &Status) -> (String, String) {
    assert_eq!(
        reason(status),
        (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned())
    );
    let bad_request = status.get_details_bad_request().expect("a BadRequest");
    let [violation] = &bad_request.field_violations[..] else {
        panic!("{bad_request:?}")
    };
    (violation.field.clone(), violation.description.clone())
}

/// How long the client should wait before it tries again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}
