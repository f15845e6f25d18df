//! Where the database is.

use std::{path::PathBuf, sync::Arc};

use rustls::ClientConfig;

#[derive(Clone, Debug)]
pub struct Settings {
    pub url: Url,
    /// Postgres only.
    pub max_connections: usize,
    /// Whether concurrent refreshes share one statement (Postgres only). No variable sets it:
    /// the benches switch it off to measure the gain.
    pub batch_refreshes: bool,
}

#[derive(Clone, Debug)]
pub enum Url {
    /// A file, relative to the current directory unless absolute. Its folder exists.
    Sqlite(PathBuf),
    /// A server, or several of which one is the primary.
    Postgres(Box<Postgres>),
}

/// The servers of one Postgres database. `Debug` leaves the password out.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Each server that the URL names, in its order: host, user, database and time limits.
    pub servers: Vec<tokio_postgres::Config>,
    pub encryption: Encryption,
    /// For encrypted connections; it checks the server as `encryption` says.
    pub tls: Arc<ClientConfig>,
    /// Whether a standby is passed over.
    pub needs_primary: bool,
    pub in_random_order: bool,
}

impl Postgres {
    /// Whether each connection is encrypted and the server proves who it is.
    pub const fn checks_server(&self) -> bool {
        matches!(
            self.encryption,
            Encryption::VerifiedChain | Encryption::VerifiedName
        )
    }
}

/// libpq's `sslmode`, by what it does. The first three fall back to plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Never,
    /// `allow`: only if the server refuses plain text.
    OnDemand,
    /// `prefer`: if the server can.
    IfPossible,
    /// `require`: without a check of the server.
    Required,
    /// `verify-ca`.
    VerifiedChain,
    /// `verify-full`.
    VerifiedName,
}
