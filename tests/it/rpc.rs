//! The calls: what each one does, on SQLite and on Postgres.

mod accounts;
mod enumeration;
mod errors;
mod forged_tokens;
mod keys;
mod login;
mod logout;
mod refresh;
mod refresh_groups;
mod register;
mod session_model;
mod throttle;
mod throttle_model;
