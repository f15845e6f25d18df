//! An example of a gateway in front of the RealChat Auth Service, to copy from.
//!
//! [`auth`] calls the service, with deadlines, retries, the internal token and the client's
//! address. [`keys`] verifies access tokens without a call. [`error`] turns errors into HTTP
//! answers. [`routes`] joins them; the refresh token stays in a cookie that no script can
//! read.

pub mod auth;
pub mod error;
pub mod keys;
pub mod routes;

/// The generated messages and client of the service.
#[allow(clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
