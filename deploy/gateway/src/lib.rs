//! How a gateway uses the RealChat Auth Service. Copy what you need.
//!
//! [`auth`] calls the service: deadlines, retries, who we are and who our client is.
//! [`keys`] verifies access tokens without calling it. [`error`] tells a client what went
//! wrong. [`routes`] puts them together; the refresh token stays in a cookie that no script
//! can read.

pub mod auth;
pub mod error;
pub mod keys;
pub mod routes;

/// The service's messages and client, as generated.
#[allow(clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
