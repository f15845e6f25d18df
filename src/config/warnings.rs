//! Warnings about settings that are allowed but probably not meant.

use std::time::Duration;

use super::Config;
use crate::{grpc::Exposure, model::Timestamp, tls::server::Settings};

/// Enough time to find out why the certificate was not renewed.
const SOON: Duration = Duration::from_hours(7 * 24);

impl Config {
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        match &self.tls {
            Some(tls) => tls_warnings(tls, now),
            None if self.grpc_addr.ip().is_loopback() => Vec::new(),
            None => vec![plaintext_warning(self.exposure)],
        }
    }
}

fn plaintext_warning(exposure: Exposure) -> String {
    let (secrets, keys) = if exposure.plaintext_keys {
        ("passwords, tokens and the signing key", "")
    } else {
        let keys = "; GetSigningKey is refused except on loopback";
        ("passwords and tokens", keys)
    };
    format!(
        "GRPC_ADDR: OPEN TO THE NETWORK WITHOUT TLS: unless something else encrypts, {secrets} \
         can be read on the way; set TLS_CERT_FILE and TLS_KEY_FILE{keys}"
    )
}

fn tls_warnings(tls: &Settings, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    let not_after = tls.identity.certificate.not_after;
    let mut warn = |text: String| warnings.push(text);
    if not_after < now {
        warn(format!(
            "TLS_CERT_FILE: THE CERTIFICATE EXPIRED on {not_after}"
        ));
    } else if not_after < now + SOON {
        warn(format!(
            "TLS_CERT_FILE: the certificate expires on {not_after}"
        ));
    }
    if tls.files.key_is_exposed() {
        warn("TLS_KEY_FILE: everybody on this machine may read the key: make it 0600".to_owned());
    }
    warnings
}
