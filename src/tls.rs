//! TLS: rustls with the ring provider. This file has the clients for the database and Kafka;
//! the modules below serve the gRPC port.

pub mod certificate;
mod chain;
pub mod database;
mod public_key;
pub mod reload;
pub mod server;

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// A client that verifies the server's certificate and name.
pub fn client(roots: Arc<RootCertStore>) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The certificate authorities in the content of a PEM file.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        let added = roots.add(certificate);
        added.map_err(|_| "holds a certificate that cannot be used")?;
    }
    Ok(roots)
}

/// The certificates in the content of a PEM file, at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| "holds a malformed certificate")?;
    if certificates.is_empty() {
        return Err("holds no certificate (PEM)");
    }
    Ok(certificates)
}
