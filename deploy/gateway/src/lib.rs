//! An example of a gateway in front of the RealChat Auth Service, to copy from.
//!
//! [`auth`] calls the service, with deadlines, retries, the internal token and the client's
//! address. [`verifier`] verifies access tokens without a call, and [`watch`] receives new keys and
//! ended sessions. [`error`] turns errors into HTTP answers. [`cookies`] keeps the refresh token
//! and the device token where no script can read them. [`routes`] joins them for a page with
//! scripts, and [`pages`] are HTML forms without.

pub mod auth;
pub mod calls;
pub mod cookies;
pub mod error;
pub mod log;
pub mod pages;
pub mod routes;
pub mod verifier;
pub mod watch;

/// The generated messages and clients of the service.
#[allow(clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
