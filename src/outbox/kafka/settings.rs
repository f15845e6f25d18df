use std::sync::Arc;

use rustls::RootCertStore;
use secrecy::SecretString;

#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of some brokers; they know the others.
    pub brokers: Vec<String>,
    pub topic: String,
    /// The authorities that the brokers' certificates must come from; `None` for plain text.
    pub tls: Option<Arc<RootCertStore>>,
    /// The login at the brokers; `None` for anonymous.
    pub sasl: Option<Sasl>,
}

#[derive(Clone, Debug)]
pub struct Sasl {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: SecretString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// `PLAIN`: as it is (RFC 4616).
    Plain,
    /// `SCRAM-SHA-256` (RFC 7677).
    ScramSha256,
    ScramSha512,
}
