//! The names and the end of validity of an X.509 certificate.
//!
//! Only the subject alternative names count (RFC 9525): the common name is for humans.

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Version,
    der::{self, Decode as _},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::model::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names in lower case, and unchanged URIs.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Reads a certificate without verifying it.
pub fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, der::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate)?.tbs_certificate;
    let names = parsed.get::<SubjectAltName>()?;
    let names = names.into_iter().flat_map(|(_, names)| names.0);
    let [not_before, not_after] = [parsed.validity.not_before, parsed.validity.not_after];
    Ok(Certificate {
        names: names.filter_map(name).collect(),
        not_before: Timestamp::from_micros(0) + not_before.to_unix_duration(),
        not_after: Timestamp::from_micros(0) + not_after.to_unix_duration(),
    })
}

/// Whether it has no extensions, and therefore no names.
pub fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_cert::Certificate::from_der(certificate);
    parsed.is_ok_and(|parsed| parsed.tbs_certificate.version == Version::V1)
}

/// A URI has a colon after its scheme and a DNS name has none, so they cannot be confused.
fn name(name: GeneralName) -> Option<String> {
    let (name, is_uri) = match name {
        GeneralName::DnsName(name) => (name.as_str().to_ascii_lowercase(), false),
        GeneralName::UniformResourceIdentifier(uri) => (uri.as_str().to_owned(), true),
        _ => return None,
    };
    (name.contains(':') == is_uri).then_some(name)
}
