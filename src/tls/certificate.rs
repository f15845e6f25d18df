//! What we want to know of an X.509 certificate: its names, and until when it is valid.
//!
//! Only the subject alternative names count (RFC 9525): the common name is a text for people.

use rustls::pki_types::CertificateDer;
use x509_cert::{
    der::{self, Decode as _},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::model::Timestamp;

/// A certificate, as far as it concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names in lower case, and URIs as they are.
    pub names: Vec<String>,
    /// The last moment at which it is valid.
    pub not_after: Timestamp,
}

/// Reads a certificate. Whether it can be trusted is another question.
pub fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, der::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate)?.tbs_certificate;
    let names = parsed.get::<SubjectAltName>()?;
    let names = names.into_iter().flat_map(|(_, names)| names.0);
    let not_after = parsed.validity.not_after.to_unix_duration();
    Ok(Certificate {
        names: names.filter_map(name).collect(),
        not_after: Timestamp::from_micros(0) + not_after,
    })
}

fn name(name: GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => {
            Some(name.as_str().to_ascii_lowercase()).filter(|name| !is_uri(name))
        }
        GeneralName::UniformResourceIdentifier(uri) => {
            Some(uri.as_str().to_owned()).filter(|uri| is_uri(uri))
        }
        _ => None,
    }
}

/// A URI has a scheme, and no DNS name a colon: neither can be taken for the other.
fn is_uri(name: &str) -> bool {
    name.contains(':')
}
