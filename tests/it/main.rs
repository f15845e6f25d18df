//! Everything that is not pure, through the real server with a real client, on SQLite and
//! on Postgres, and on a real Kafka. `tests/run` starts what these tests need.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod harness;
mod kafka;
mod lifecycle;
mod migrations;
mod outbox;
mod smoke;
