//! Placeholder; the founder writes this file.

pub mod backoff;
pub mod kafka;
pub mod partition;
pub mod publisher;
