//! The service as a process: its start, its end, its commands and its ports.

mod commands;
mod exposure;
mod isolation;
mod server;
mod signals;
mod sqlite_file;
mod start;
mod stop;
mod tls;
