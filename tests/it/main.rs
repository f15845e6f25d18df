//! Everything that is not pure, through the real server with a real client, on SQLite and
//! on Postgres, and on a real Kafka. `tests/run` starts what these tests need.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod attack;
mod edge;
mod faults;
mod harness;
mod operations;
mod outbox;
mod process;
mod rpc;
