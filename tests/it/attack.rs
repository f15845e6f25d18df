//! Clients that try to harm the service, and a search for secrets that it leaves behind.

mod connections;
mod encrypted;
mod exhaustion;
mod http2;
mod import_streams;
mod malformed;
mod memory;
mod plaintext;
mod server_streams;
mod target;
mod watchers;
