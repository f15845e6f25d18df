//! The public key of a certificate, read without a check of anything else in it: webpki parses
//! only version 3.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
};
use x509_cert::der::{self, Decode as _, Reader as _, SliceReader, Tag, asn1::AnyRef};

/// A `SubjectPublicKeyInfo` (RFC 5280, 4.1).
pub(super) struct PublicKey<'a>(&'a [u8]);

impl<'a> PublicKey<'a> {
    pub(super) fn of(certificate: &'a CertificateDer<'_>) -> Result<Self, Error> {
        let found = find(certificate);
        found.map(Self).map_err(|_| malformed())
    }

    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        dss: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(self.0);
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    /// rustls has no such function for TLS 1.2. As in its own one for certificates, each algorithm
    /// of the scheme that fits the key is tried.
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        dss: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (algorithm, key) = split(self.0).map_err(|_| malformed())?;
        let mapping = algorithms.mapping.iter();
        let mut fitting = mapping
            .filter(|(scheme, _)| *scheme == dss.scheme)
            .flat_map(|(_, algorithms)| *algorithms)
            .filter(|fitting| fitting.public_key_alg_id().as_ref() == algorithm);
        let valid = fitting.any(|fitting| {
            let verified = fitting.verify_signature(key, message, dss.signature());
            verified.is_ok()
        });
        if valid {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

fn malformed() -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}

fn find(certificate: &[u8]) -> der::Result<&[u8]> {
    let certificate = AnyRef::from_der(certificate)?;
    let body = AnyRef::from_der(SliceReader::new(certificate.value())?.tlv_bytes()?)?;
    let mut fields = SliceReader::new(body.value())?;
    // Version 1 has no field for its version.
    if matches!(fields.peek_tag()?, Tag::ContextSpecific { .. }) {
        fields.tlv_bytes()?;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        fields.tlv_bytes()?;
    }
    fields.tlv_bytes()
}

/// The content of the algorithm's identifier, and the bits of the key.
fn split(key: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let key = AnyRef::from_der(key)?;
    let mut fields = SliceReader::new(key.value())?;
    let algorithm = AnyRef::from_der(fields.tlv_bytes()?)?;
    let bits = AnyRef::from_der(fields.tlv_bytes()?)?;
    let key = bits.value().strip_prefix(&[0]);
    let key = key.ok_or_else(|| der::Error::from(der::ErrorKind::Failed))?;
    Ok((algorithm.value(), key))
}
