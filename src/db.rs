//! x
pub mod outbox;
