use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

#[derive(Clone, Debug)]
pub struct Settings {
    pub watch: WatchSettings,
    /// How long the revocations may be unknown before [`WhenStale`] holds.
    pub max_staleness: Duration,
    pub when_stale: WhenStale,
}

/// How the service is reached.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// `http://host:port` or `https://host:port`, at least one.
    pub urls: Vec<String>,
    pub token: Option<Token>,
    /// The authorities of the service's certificate, PEM; `None` for those of the system.
    pub authorities: Option<PathBuf>,
    pub identity: Option<Identity>,
}

/// The internal token of this caller.
#[derive(Clone, Debug)]
pub enum Token {
    Text(SecretString),
    /// It is read again for each connection.
    File(PathBuf),
}

/// The files of the client certificate for mTLS, PEM. They are read again for each connection.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Whether tokens are accepted while new revocations are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenStale {
    /// Until the keys are too old.
    Serve,
    Refuse,
}
