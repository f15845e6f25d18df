//! Events between their commit and Kafka's acknowledgement, and the lease of the one
//! replica that publishes them.

mod backlog;
mod insert;
mod lease;
mod pending;

pub(super) use self::insert::{EventRow, insert_event, insert_events};
pub use self::lease::Hold;
