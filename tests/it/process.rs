//! The service as a process: its start, its end, its commands and its ports.

mod commands;
mod exposure;
mod isolation;
mod postgres_url;
mod server;
mod signals;
mod sqlite_file;
mod start;
mod stop;
mod tls;
mod users;
