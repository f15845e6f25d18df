//! auth
pub mod clock;
pub mod config;
pub mod db;
pub mod id;
pub mod telemetry;
/// Generated from `proto/`.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
