//! auth
pub mod app;
pub mod auth;
pub mod clock;
pub mod config;
pub mod db;
pub mod grpc;
pub mod id;
pub mod outbox;
pub mod password;
pub mod telemetry;
pub mod tls;
/// Generated from `proto/`.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
