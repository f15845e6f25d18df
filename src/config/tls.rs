//! TLS on the gRPC port.
//!
//! A setting that would have no effect is refused, above all a client CA without names: an
//! operator could think that every client needs a certificate.

use std::path::PathBuf;

use super::{
    internal_callers::INTERNAL_CLIENT_NAMES,
    reader::Reader,
    variable::{value, variables},
};
use crate::tls::server::{Flaw, ServerFiles, Settings};

variables! {
    "Callers"

    /// Certificate chain of the server, PEM; read again when it changes
    TLS_CERT_FILE: PathBuf = value("PATH", |text| Ok(text.into())).when_unset("no TLS");
    /// Private key of the server, PEM, not encrypted
    TLS_KEY_FILE: PathBuf = value("PATH", |text| Ok(text.into()));
    /// CA of client certificates, PEM; a client without a certificate is still accepted
    TLS_CLIENT_CA_FILE: PathBuf = value("PATH", |text| Ok(text.into()));
}

/// `None` without `TLS_CERT_FILE`, or if something is wrong.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    let needs_both = "needs TLS_CERT_FILE and TLS_KEY_FILE";
    let no_effect = "has no effect without INTERNAL_CLIENT_NAMES";
    reader.refuse_without(&TLS_CERT_FILE, &TLS_KEY_FILE, "needs TLS_CERT_FILE");
    reader.refuse_without(&TLS_KEY_FILE, &TLS_CERT_FILE, "needs TLS_KEY_FILE");
    reader.refuse_without(&TLS_CERT_FILE, &TLS_CLIENT_CA_FILE, needs_both);
    if reader.is_set(&TLS_CERT_FILE.declaration) {
        reader.refuse_without(&INTERNAL_CLIENT_NAMES, &TLS_CLIENT_CA_FILE, no_effect);
    }
    let certificate = reader.optional(&TLS_CERT_FILE);
    let key = reader.optional(&TLS_KEY_FILE);
    let files = ServerFiles {
        client_authorities: reader.optional(&TLS_CLIENT_CA_FILE),
        certificate: certificate?,
        key: key?,
    };
    let mismatch = "is not the key of the certificate in TLS_CERT_FILE";
    let (variable, what) = match files.read().and_then(|content| content.parse()) {
        Ok(identity) => return Some(Settings { files, identity }),
        Err(Flaw::Certificate(what)) => (&TLS_CERT_FILE, what),
        Err(Flaw::Key(what)) => (&TLS_KEY_FILE, what),
        Err(Flaw::KeyMismatch) => (&TLS_KEY_FILE, mismatch.to_owned()),
        Err(Flaw::ClientAuthorities(what)) => (&TLS_CLIENT_CA_FILE, what),
    };
    reader.problem(variable.name(), what);
    None
}
