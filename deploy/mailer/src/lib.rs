//! An example of a mailer for the RealChat Auth Service, to copy from.
//!
//! ```text
//! Kafka --> consumer --> event --> delivery ( claim --> render --> send ) --> SMTP server
//!              ^                                                     |
//!              +----- assignment: progress, committed to Kafka <-----+
//! ```
//!
//! [`consumer`] reads the topic in a consumer group, [`event`] picks the records that ask for a
//! mail. [`delivery`] takes one request from its claim to the SMTP server, however long that
//! takes, by the connections of [`smtp`]. [`progress`] knows which records of a partition are done; [`assignment`] holds this
//! for the partitions of this process and commits it. The mailer stores nothing by itself.

pub mod assignment;
pub mod backoff;
pub mod claim;
pub mod consumer;
pub mod delivery;
pub mod event;
pub mod group;
pub mod progress;
pub mod put_off;
pub mod render;
pub mod send;
pub mod settings;
pub mod smtp;

/// The generated messages and clients of the service.
#[allow(clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
