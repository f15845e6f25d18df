//! TLS on the gRPC port, and which client certificates belong to internal services.
//!
//! What would have no effect is refused, as with Kafka: above all a client CA without names,
//! which looks as if every client had to show a certificate.

use std::{net::IpAddr, path::PathBuf};

use super::{args::Args, problem::Problems};
use crate::tls::server::{Identity, ServerFiles};

/// TLS on the gRPC port.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where certificate and key are: they are read again when they change.
    pub files: ServerFiles,
    /// What was in the files.
    pub identity: Identity,
    /// DNS names (lower case) and URIs of clients that are internal services.
    pub client_names: Vec<String>,
}

impl TlsConfig {
    /// `None` without `TLS_CERT_FILE`, or if something is wrong.
    pub(super) fn read(args: &Args, problems: &mut Problems) -> Option<Self> {
        let variables = [
            ("TLS_CERT_FILE", &args.tls_cert_file),
            ("TLS_KEY_FILE", &args.tls_key_file),
            ("TLS_CLIENT_CA_FILE", &args.tls_client_ca_file),
            ("INTERNAL_CLIENT_NAMES", &args.internal_client_names),
        ];
        let [cert, key, ca, names] = variables.map(|(_, value)| value.is_some());
        for (index, misses, what) in [
            (1, !cert, "needs TLS_CERT_FILE"),
            (0, !key, "needs TLS_KEY_FILE"),
            (2, !cert, "needs TLS_CERT_FILE and TLS_KEY_FILE"),
            (
                2,
                cert && !names,
                "has no effect without INTERNAL_CLIENT_NAMES",
            ),
            (3, !ca, "needs TLS_CLIENT_CA_FILE"),
        ] {
            let (name, value) = variables[index];
            if misses && value.as_ref().is_some_and(|value| !value.is_empty()) {
                problems.add(name, what);
            }
        }
        let mut path = |index: usize| {
            let (name, value): (_, &Option<String>) = variables[index];
            problems.parse(name, value.as_deref(), |value| Ok(PathBuf::from(value)))
        };
        let (certificate, key, client_authorities) = (path(0), path(1), path(2));
        let names = args.internal_client_names.as_deref();
        let client_names = problems.parse("INTERNAL_CLIENT_NAMES", names, client_names);
        let files = ServerFiles {
            certificate: certificate?,
            key: key?,
            client_authorities,
        };
        let identity = files.read().and_then(|content| content.parse());
        Some(Self {
            identity: identity
                .map_err(|flaw| problems.add(flaw.variable, flaw.what))
                .ok()?,
            files,
            client_names: client_names.unwrap_or_default(),
        })
    }
}

/// DNS names and URIs, comma-separated.
fn client_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).map(client_name);
    let names = names.collect::<Option<Vec<_>>>();
    names.ok_or_else(|| {
        "must be DNS names (without wildcards) and URIs such as spiffe://realchat/gateway, comma-separated"
            .into()
    })
}

/// As [`crate::tls::certificate`] shows it: a DNS name in lower case, or a URI.
fn client_name(text: &str) -> Option<String> {
    if text.contains("://") {
        let legal = text.bytes().all(|byte| byte.is_ascii_graphic());
        return legal.then(|| text.to_owned());
    }
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (!text.is_empty() && text.bytes().all(legal)).then(|| text.to_ascii_lowercase())
}
