//! The sidecar of a gateway: it says whether an access token is valid, without a call to the
//! service.
//!
//! ```text
//!   gateway --(every request)--> server: envoy or forward_auth
//!                                   |
//!                                checks ---> knowledge: keys, revocations, how fresh they are
//!                                               ^
//!   EdgeService.Watch of a replica -----------> watch
//! ```
//!
//! 1. [`Watcher`] follows the stream `Watch` of one replica at a time and writes what it says into
//!    the [`Knowledge`]. When a stream ends, the next one goes on at its cursor.
//! 2. [`Server`] reads the `Authorization` header of a request from Envoy's `Check` or from the
//!    request itself, and answers with what `checks` finds.
//! 3. [`Knowledge`] verifies a token with the crate `realchat-verifier`, and refuses to answer as
//!    long as it knows too little.
//!
//! Checks never wait for the network, and for updates of the knowledge only for a moment.

mod checks;
mod envoy;
mod forward_auth;
mod knowledge;
mod metrics;
mod server;
mod settings;
mod unary;
mod watch;

pub use self::{
    checks::Checks,
    envoy::proto,
    knowledge::{Knowledge, State},
    metrics::Metrics,
    server::{Server, ServerLimits},
    settings::{Identity, Settings, Token, WatchSettings, WhenStale},
    watch::{WatchLimits, Watcher, watch_freshness},
};
