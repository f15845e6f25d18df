//! A message that tonic cannot read is the caller's fault.
//!
//! tonic answers it before a handler is asked: INTERNAL for what is not protobuf (a word
//! that would page our operators), `OUT_OF_RANGE` for what is too large, both without
//! `ErrorInfo`. Whatever the service says itself has details; so what has none is tonic's.

use tonic::{Code, Status, body::Body};

use super::MAX_MESSAGE_BYTES;
use crate::auth::Error;

/// Puts tonic's own refusals in the words of the contract.
pub(super) fn explain(response: http::Response<Body>) -> http::Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let problem = match status.code() {
        Code::Internal if status.details().is_empty() => "cannot be read".to_owned(),
        Code::OutOfRange if status.details().is_empty() => {
            format!("must have at most {MAX_MESSAGE_BYTES} bytes")
        }
        _ => return response,
    };
    let field = "request";
    Status::from(Error::InvalidArgument { field, problem }).into_http()
}
