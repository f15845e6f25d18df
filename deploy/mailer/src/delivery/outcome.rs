//! What an attempt may end with, and its words in the log.

use std::fmt;

use crate::{
    backoff::{self, Pauses},
    claim, smtp,
};

/// What is left to do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// It was claimed, and is not sent.
    Claimed,
    All,
}

/// The end of a request.
pub enum End {
    Sent,
    /// The server got it twice, and did not say whether it took it.
    Unanswered,
    NotWanted,
    /// Says why.
    NotSent(String),
}

/// A fault that may end.
pub enum Fault {
    Claim(claim::Failed),
    Smtp(smtp::Failed),
    PutOff(u16),
    Unanswered,
}

impl Fault {
    pub fn pauses(&self) -> Pauses {
        match self {
            Self::Claim(failed) if failed.may_have_counted() => backoff::CLAIM,
            Self::PutOff(_) => backoff::PUT_OFF,
            Self::Claim(_) | Self::Smtp(_) | Self::Unanswered => backoff::FAULT,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Unanswered => f.write_str("sent twice, without an answer of the SMTP server"),
            Self::NotWanted => f.write_str("used, too old or not wanted"),
            Self::NotSent(why) => write!(f, "NOT SENT: {why}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(failed) => failed.fmt(f),
            Self::Smtp(failed) => failed.fmt(f),
            Self::PutOff(code) => write!(f, "the SMTP server answered {code} to its recipient"),
            Self::Unanswered => f.write_str("the SMTP server did not say whether it took it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn people_wait_long_only_where_that_is_needed() {
        let claim = |status| Fault::Claim(claim::Failed(status)).pauses();
        assert_eq!(claim(Status::unavailable("broken")), backoff::CLAIM);
        assert_eq!(Fault::PutOff(450).pauses(), backoff::PUT_OFF);
        assert_eq!(Fault::Unanswered.pauses(), backoff::FAULT);
        assert_eq!(Fault::Smtp(smtp::Failed::Late).pauses(), backoff::FAULT);
    }
}
