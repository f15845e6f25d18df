//! The service as a process: its start, its end, its commands and its ports.

mod commands;
mod lifecycle;
mod server;
mod tls;
