//! Gives tonic's own errors the form of our errors.
//!
//! tonic answers a message that it cannot read before it calls a handler: INTERNAL for a
//! message that is not protobuf (a code that triggers alerts), `OUT_OF_RANGE` for one that is
//! too large, both without `ErrorInfo`. Both are the caller's fault. All errors of the service
//! itself have details, so an error without details comes from tonic.

use std::error::Error as _;

use tonic::{Code, Status};

use super::Response;
use crate::{auth::Error, grpc::MAX_MESSAGE_BYTES};

pub fn with_error_info(response: Response) -> Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(unreadable) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// The error for a message that tonic cannot read. A status with a source is about the connection.
pub fn unreadable(status: &Status) -> Option<Error> {
    if status.source().is_some() {
        return None;
    }
    let problem = match status.code() {
        Code::Internal if status.details().is_empty() => "cannot be read".to_owned(),
        Code::OutOfRange if status.details().is_empty() => {
            format!("must have at most {MAX_MESSAGE_BYTES} bytes")
        }
        _ => return None,
    };
    Some(Error::invalid("request", problem))
}
