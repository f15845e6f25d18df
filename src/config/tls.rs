//! TLS on the gRPC port, and which client certificates belong to internal services.
//!
//! What would have no effect is refused, as with Kafka: above all a client CA without names,
//! which looks as if every client had to show a certificate.

use std::{net::IpAddr, path::PathBuf};

use super::{args::Args, problem::Problems};
use crate::tls::server::{Flaw, ServerFiles, Settings};

/// The settings, `None` without `TLS_CERT_FILE` or if something is wrong; and the client names.
pub(super) fn read(args: &Args, problems: &mut Problems) -> (Option<Settings>, Vec<String>) {
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
    let files = certificate.zip(key).map(|(certificate, key)| ServerFiles {
        certificate,
        key,
        client_authorities,
    });
    let settings = files.and_then(|files| {
        let identity = files.read().and_then(|content| content.parse());
        let identity = identity.map_err(|flaw| report(flaw, problems)).ok()?;
        Some(Settings { files, identity })
    });
    (settings, client_names.unwrap_or_default())
}

fn report(flaw: Flaw, problems: &mut Problems) {
    let (name, what) = match flaw {
        Flaw::Certificate(what) => ("TLS_CERT_FILE", what),
        Flaw::Key(what) => ("TLS_KEY_FILE", what),
        Flaw::KeyMismatch => (
            "TLS_KEY_FILE",
            "is not the key of the certificate in TLS_CERT_FILE".to_owned(),
        ),
        Flaw::ClientAuthorities(what) => ("TLS_CLIENT_CA_FILE", what),
    };
    problems.add(name, what);
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
