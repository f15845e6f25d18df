//! Errors as a client sees them: a status and the reason as JSON, with `Retry-After` if a
//! retry makes sense.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub enum Error {
    /// The access token is invalid or missing.
    InvalidToken,
    /// Tokens cannot be verified now.
    Unavailable,
    /// The service's error.
    Auth(Box<Status>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Auth(Box::new(status))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::InvalidToken => answer(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", None),
            Self::Unavailable => unavailable(),
            Self::Auth(status) => explain(&status),
        }
    }
}

/// Branches on the reason, not on the text: the reason is part of the contract.
fn explain(status: &Status) -> Response {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let reason = reason.as_deref().unwrap_or_default();
    let http = match reason {
        "INVALID_ARGUMENT" => return bad_request(status),
        "EMAIL_TAKEN" => StatusCode::CONFLICT,
        "INVALID_CREDENTIALS" | "INVALID_TOKEN" => StatusCode::UNAUTHORIZED,
        "TOO_MANY_ATTEMPTS" => StatusCode::TOO_MANY_REQUESTS,
        "OVERLOADED" => StatusCode::SERVICE_UNAVAILABLE,
        "DEADLINE_EXCEEDED" => StatusCode::GATEWAY_TIMEOUT,
        // The gateway's own token is wrong: a client cannot correct that.
        "PERMISSION_DENIED" => StatusCode::INTERNAL_SERVER_ERROR,
        _ if matches!(status.code(), Code::Unavailable | Code::Unknown) => return unavailable(),
        // tonic sets these codes on the gateway's side of the call.
        _ if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) => {
            StatusCode::GATEWAY_TIMEOUT
        }
        _ => StatusCode::BAD_GATEWAY,
    };
    let later = status.get_details_retry_info();
    answer(http, reason, later.and_then(|later| later.retry_delay))
}

/// Each bad field with its problem, for a form to show.
fn bad_request(status: &Status) -> Response {
    let details = status.get_details_bad_request().into_iter();
    let fields: serde_json::Map<_, _> = details
        .flat_map(|details| details.field_violations)
        .map(|violation| (violation.field, violation.description.into()))
        .collect();
    let body = json!({"error": "INVALID_ARGUMENT", "fields": fields});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn unavailable() -> Response {
    let later = Some(Duration::from_secs(1));
    answer(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", later)
}

fn answer(status: StatusCode, reason: &str, retry_after: Option<Duration>) -> Response {
    let mut response = (status, Json(json!({"error": reason}))).into_response();
    if let Some(retry_after) = retry_after {
        // Whole seconds (RFC 9110, section 10.2.3), rounded up: never too early.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
