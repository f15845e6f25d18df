//! How to reach Kafka, in the terms of Kafka's own clients (`security.protocol`,
//! `sasl.mechanism`). A protocol holds exactly what it needs: none can lack its TLS
//! configuration or its credentials.

use std::sync::Arc;

use rskafka::client::{Credentials, SaslConfig};
use secrecy::{ExposeSecret, SecretString};

/// Where events go.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port` of the brokers to ask first; one that answers is enough.
    pub brokers: Vec<String>,
    /// The topic, which must exist.
    pub topic: String,
    /// How to talk to the brokers.
    pub security: Security,
}

/// Kafka's `security.protocol`.
#[derive(Clone, Debug)]
pub enum Security {
    /// `PLAINTEXT`
    Plaintext,
    /// `SSL`
    Ssl {
        /// Whom to trust and, with mutual TLS, who we are.
        tls: Arc<rustls::ClientConfig>,
    },
    /// `SASL_PLAINTEXT`
    SaslPlaintext {
        /// Who we are.
        sasl: Sasl,
    },
    /// `SASL_SSL`
    SaslSsl {
        /// Whom to trust.
        tls: Arc<rustls::ClientConfig>,
        /// Who we are.
        sasl: Sasl,
    },
}

impl Security {
    pub(super) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        match self {
            Self::Ssl { tls } | Self::SaslSsl { tls, .. } => Some(tls),
            Self::Plaintext | Self::SaslPlaintext { .. } => None,
        }
    }

    pub(super) fn sasl(&self) -> Option<&Sasl> {
        match self {
            Self::SaslPlaintext { sasl } | Self::SaslSsl { sasl, .. } => Some(sasl),
            Self::Plaintext | Self::Ssl { .. } => None,
        }
    }
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// How to prove it.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: SecretString,
}

/// Kafka's `sasl.mechanism`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// `PLAIN`
    Plain,
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
}

impl Sasl {
    /// The same for rskafka, password included: nothing may print it.
    pub(super) fn config(&self) -> SaslConfig {
        let password = self.password.expose_secret().to_owned();
        let credentials = Credentials::new(self.username.clone(), password);
        match self.mechanism {
            SaslMechanism::Plain => SaslConfig::Plain(credentials),
            SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_do_not_print_their_password() {
        let sasl = Sasl {
            mechanism: SaslMechanism::ScramSha512,
            username: "auth".to_owned(),
            password: "hunter2".into(),
        };
        assert!(!format!("{:?}", Security::SaslPlaintext { sasl }).contains("hunter2"));
    }
}
