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
    /// The access token lacks the role of the route.
    MissingRole,
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
            Self::InvalidToken => json(&Explained::invalid_token(), None),
            Self::MissingRole => json(&Explained::missing_role(), None),
            Self::Unavailable => json(&Explained::unavailable(), None),
            Self::Auth(status) => json(&Explained::of(&status), Some(&status)),
        }
    }
}

/// An error of the service, in the words of HTTP.
pub struct Explained {
    pub http: StatusCode,
    pub reason: String,
    pub retry_after: Option<Duration>,
    /// When a suspension ends (RFC 3339). `None` if it does not end by itself.
    pub until: Option<String>,
}

impl Explained {
    /// Branches on the reason, not on the text: the reason is part of the contract.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, metadata) = info
            .map(|info| (info.reason, info.metadata))
            .unwrap_or_default();
        let http = match reason.as_str() {
            "INVALID_ARGUMENT" => StatusCode::BAD_REQUEST,
            "EMAIL_TAKEN" => StatusCode::CONFLICT,
            "INVALID_CREDENTIALS" | "INVALID_TOKEN" => StatusCode::UNAUTHORIZED,
            "EMAIL_NOT_VERIFIED" | "ACCOUNT_SUSPENDED" => StatusCode::FORBIDDEN,
            "TOO_MANY_ATTEMPTS" => StatusCode::TOO_MANY_REQUESTS,
            "OVERLOADED" => StatusCode::SERVICE_UNAVAILABLE,
            "DEADLINE_EXCEEDED" => StatusCode::GATEWAY_TIMEOUT,
            // The gateway's own token is wrong: a client cannot correct that.
            "PERMISSION_DENIED" => StatusCode::INTERNAL_SERVER_ERROR,
            _ if matches!(status.code(), Code::Unavailable | Code::Unknown) => {
                return Self::unavailable();
            }
            // tonic sets these codes on the gateway's side of the call.
            _ if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            _ => StatusCode::BAD_GATEWAY,
        };
        let later = status.get_details_retry_info();
        let retry_after = later.and_then(|later| later.retry_delay);
        Self {
            http,
            reason,
            retry_after,
            until: metadata.get("until").cloned(),
        }
    }

    fn invalid_token() -> Self {
        Self {
            http: StatusCode::UNAUTHORIZED,
            reason: "INVALID_TOKEN".to_owned(),
            retry_after: None,
            until: None,
        }
    }

    fn missing_role() -> Self {
        Self {
            http: StatusCode::FORBIDDEN,
            reason: "MISSING_ROLE".to_owned(),
            retry_after: None,
            until: None,
        }
    }

    fn unavailable() -> Self {
        Self {
            http: StatusCode::SERVICE_UNAVAILABLE,
            reason: "UNAVAILABLE".to_owned(),
            retry_after: Some(Duration::from_secs(1)),
            until: None,
        }
    }
}

/// Each bad field with its problem, for a form to show.
pub fn bad_fields(status: &Status) -> impl Iterator<Item = (String, String)> {
    let details = status.get_details_bad_request().into_iter();
    details
        .flat_map(|details| details.field_violations)
        .map(|violation| (violation.field, violation.description))
}

/// The fields only if some are bad.
fn json(error: &Explained, status: Option<&Status>) -> Response {
    let fields = status.into_iter().flat_map(bad_fields);
    let fields: serde_json::Map<_, _> = fields
        .map(|(field, problem)| (field, problem.into()))
        .collect();
    let mut body = json!({"error": error.reason});
    if error.http == StatusCode::BAD_REQUEST {
        body["fields"] = fields.into();
    }
    if let Some(until) = &error.until {
        body["until"] = until.as_str().into();
    }
    let mut response = (error.http, Json(body)).into_response();
    if let Some(retry_after) = error.retry_after {
        let seconds = whole_seconds(retry_after).into();
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// For `Retry-After` (RFC 9110, section 10.2.3). Rounded up: never too early.
#[must_use]
pub const fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + (duration.subsec_nanos() > 0) as u64
}
