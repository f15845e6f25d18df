use std::time::Duration;

use tonic::{Code, Status, transport};

/// Why there is no stream, or no longer one. No text contains a token or the content of a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{variable}: {what}")]
    File {
        variable: &'static str,
        what: String,
    },
    #[error("cannot connect")]
    Transport(#[from] transport::Error),
    #[error("no connection within {0:?}")]
    NoConnection(Duration),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("no message for {0:?}")]
    Silent(Duration),
    #[error("the stream is malformed: {0}")]
    Malformed(&'static str),
}

impl Fault {
    /// Whether the service does not accept the credentials of this caller.
    pub(super) fn is_refusal(&self) -> bool {
        let codes = [Code::PermissionDenied, Code::Unauthenticated];
        self.code().is_some_and(|code| codes.contains(&code))
    }

    pub(super) fn is_bad_cursor(&self) -> bool {
        self.code() == Some(Code::InvalidArgument)
    }

    fn code(&self) -> Option<Code> {
        match self {
            Self::Status(status) => Some(status.code()),
            _ => None,
        }
    }
}
