//! Where the database is.

use std::{path::PathBuf, sync::Arc};

use rustls::RootCertStore;

#[derive(Clone, Debug)]
pub struct Settings {
    pub url: Url,
    /// Postgres only.
    pub max_connections: usize,
    /// Whether concurrent refreshes share one statement (Postgres only). No variable sets it: the
    /// benches switch it off to measure the gain.
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
    /// Their `ssl_mode` says whether to encrypt.
    pub servers: Vec<tokio_postgres::Config>,
    pub trust: Trust,
}

impl Postgres {
    /// Whether each connection is encrypted and the server proves who it is.
    pub const fn checks_server(&self) -> bool {
        matches!(self.trust, Trust::Authorities(_))
    }
}

/// Which certificates are accepted on an encrypted connection.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any, as in libpq when no root certificate is named.
    Anybody,
    /// One for the server's host name, from these authorities.
    Authorities(Arc<RootCertStore>),
}
