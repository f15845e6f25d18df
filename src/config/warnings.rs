//! Warnings about settings that are allowed but probably not meant. `serve` logs them at its
//! start, and `check-config` prints them; `edge` logs its own.

mod edge;
mod exposed;
mod weak;

use std::{env, time::Duration};

use super::{Config, throttle::REPLACED};
use crate::{model::Timestamp, tls::server::Settings};

/// Enough time to find out why the certificate was not renewed.
const SOON: Duration = Duration::from_hours(7 * 24);

impl Config {
    /// Each begins with the name of a variable, and none shows a value that is a secret.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let tls = self.tls.iter().flat_map(|tls| tls_warnings(tls, now));
        tls.chain(exposed::warnings(self))
            .chain(weak::warnings(self))
            .chain(replaced())
            .collect()
    }
}

/// Variables of the environment that an older version read.
fn replaced() -> impl Iterator<Item = String> {
    REPLACED
        .iter()
        .filter(|(name, _)| env::var_os(name).is_some())
        .map(|(name, by)| format!("{name}: IS NO LONGER READ: use {by}"))
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
