//! Everything that is not pure, through the real server with a real client, on SQLite and
//! on Postgres, and on a real Kafka. `tests/run` starts what these tests need.

mod enumeration;
mod harness;
mod hostile;
mod plaintext;
mod session_model;
mod smoke;
