//! Everything that is not pure, through the real server with a real client, on SQLite and
//! on Postgres, and on a real Kafka. `tests/run` starts what these tests need.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod accounts;
mod audit;
mod blocklist;
mod commands;
mod connections;
mod deploy;
mod enumeration;
mod errors;
mod faults;
mod harness;
mod hostile;
mod housekeeping;
mod kafka;
mod kafka_faults;
mod keys;
mod lifecycle;
mod login;
mod logout;
mod metrics;
mod migrations;
mod outage;
mod outbox;
mod outbox_backlog;
mod outbox_model;
mod plaintext;
mod refresh;
mod refresh_groups;
mod register;
mod server;
mod session_model;
mod throttle;
mod throttle_model;
mod tls;
mod traces;
