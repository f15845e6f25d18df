//! TLS on the service's own port: certificate, key and, for mTLS, the authorities of clients.
//!
//! The files are one set that fits together, or a [`Flaw`] that says which file to correct.
//! HTTP/2 must be agreed on (ALPN `h2`). No session is resumed: clients keep a few long
//! connections, and each handshake asks anew who the client is. A client may show no
//! certificate; one that it shows must be valid.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{authorities, certificate, certificate::Certificate};

/// The protocol that gRPC is spoken over (RFC 9113, 3.1).
pub const ALPN: &[u8] = b"h2";

/// TLS on the service's own port.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The files. They are read again when they change.
    pub files: ServerFiles,
    /// What was in the files at the start.
    pub identity: Identity,
}

/// Where the set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of clients, PEM; without it none is asked for.
    pub client_authorities: Option<PathBuf>,
}

/// What is wrong with one file of the set, without its path or content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("key: {0}")]
    Key(String),
    #[error("key: is not the key of the certificate")]
    KeyMismatch,
    #[error("client authorities: {0}")]
    ClientAuthorities(String),
}

/// The set as it was read.
pub struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_authorities: Option<Vec<u8>>,
}

/// The set, ready for use.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What handshakes are made with.
    pub config: Arc<ServerConfig>,
    /// The server's certificate.
    pub certificate: Certificate,
    /// Which content it was made from.
    pub fingerprint: [u8; 32],
}

impl ServerFiles {
    /// Reads the files.
    pub fn read(&self) -> Result<Content, Flaw> {
        let read = |path, flaw: fn(String) -> Flaw| {
            fs::read(path).map_err(|error| flaw(format!("cannot read the file ({})", error.kind())))
        };
        let client_authorities = self.client_authorities.as_ref();
        Ok(Content {
            certificate: read(&self.certificate, Flaw::Certificate)?,
            key: read(&self.key, Flaw::Key)?.into(),
            client_authorities: client_authorities
                .map(|path| read(path, Flaw::ClientAuthorities))
                .transpose()?,
        })
    }

    /// Whether everybody on this machine may read the key.
    #[must_use]
    pub fn key_is_exposed(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(&self.key).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }
}

impl Content {
    /// The same for the same content, and for no other.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let parts = [
            Some(self.certificate.as_slice()),
            Some(self.key.as_slice()),
            self.client_authorities.as_deref(),
        ];
        let digests = parts.map(|part| part.map(Sha256::digest).unwrap_or_default());
        Sha256::digest(digests.concat()).into()
    }

    /// Puts the parts together.
    pub fn parse(&self) -> Result<Identity, Flaw> {
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| malformed())?;
        let leaf = chain.first();
        let leaf = leaf.ok_or_else(|| Flaw::Certificate("holds no certificate (PEM)".into()))?;
        let certificate = certificate::parse(leaf).map_err(|_| malformed())?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| Flaw::Key("holds no private key (PEM, not encrypted)".into()))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions");
        let builder = match &self.client_authorities {
            Some(pem) => builder.with_client_cert_verifier(client_verifier(pem)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| misfit(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Identity {
            config: Arc::new(config),
            certificate,
            fingerprint: self.fingerprint(),
        })
    }
}

fn client_verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Flaw> {
    let authorities: RootCertStore =
        authorities(pem).map_err(|what| Flaw::ClientAuthorities(what.into()))?;
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|_| Flaw::ClientAuthorities("cannot be used".into()))
}

fn misfit(error: &Error) -> Flaw {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Flaw::KeyMismatch,
        Error::InvalidCertificate(reason) => Flaw::Certificate(format!(
            "holds a certificate that cannot be used ({reason})"
        )),
        _ => Flaw::Key("holds a key of a kind that cannot be used".into()),
    }
}

fn malformed() -> Flaw {
    Flaw::Certificate("holds a malformed certificate".into())
}
