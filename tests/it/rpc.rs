//! The calls, on SQLite and on Postgres.

mod accounts;
mod admin;
mod clocks;
mod data_key;
mod device_tokens;
mod enumeration;
mod errors;
mod forged_tokens;
mod import;
mod imported_hashes;
mod keys;
mod login;
mod logout;
mod overload;
mod recovery;
mod refresh;
mod register;
mod session_model;
mod throttle;
mod throttle_model;
mod watch;
