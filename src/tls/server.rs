//! TLS on the gRPC port: certificate, key and, for mTLS, the authorities of clients.
//!
//! The files are one set that fits together, or a [`Flaw`] says which file to correct. HTTP/2
//! must be negotiated (ALPN `h2`). Sessions are not resumed, because clients keep few, long
//! connections and each handshake has to identify the client again. A client may present no
//! certificate; a presented one must be valid.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{
    Error, InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{authorities, certificate, certificate::Certificate};

/// The ALPN identifier of HTTP/2 (RFC 9113, 3.1).
pub const ALPN: &[u8] = b"h2";

#[derive(Clone, Debug)]
pub struct Settings {
    /// They are read again when they change.
    pub files: ServerFiles,
    /// The content of the files at the start.
    pub identity: Identity,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate and the intermediate ones.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authorities for client certificates. `None`: clients are not asked for one.
    pub client_authorities: Option<PathBuf>,
}

/// An error in one file, without its path or content.
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

pub struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_authorities: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Identity {
    pub config: Arc<ServerConfig>,
    pub certificate: Certificate,
    pub fingerprint: [u8; 32],
}

impl ServerFiles {
    pub fn read(&self) -> Result<Content, Flaw> {
        let read = |path, flaw: fn(String) -> Flaw| {
            fs::read(path).map_err(|error| flaw(format!("cannot read the file ({})", error.kind())))
        };
        let authorities = self.client_authorities.as_ref();
        let authorities = authorities.map(|path| read(path, Flaw::ClientAuthorities));
        Ok(Content {
            certificate: read(&self.certificate, Flaw::Certificate)?,
            key: read(&self.key, Flaw::Key)?.into(),
            client_authorities: authorities.transpose()?,
        })
    }

    /// Whether all users of this machine can read the key.
    pub fn key_is_exposed(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(&self.key).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }
}

impl Content {
    /// Equal for equal content only.
    pub fn fingerprint(&self) -> [u8; 32] {
        let parts = [
            Some(self.certificate.as_slice()),
            Some(self.key.as_slice()),
            self.client_authorities.as_deref(),
        ];
        let digests = parts.map(|part| part.map(Sha256::digest).unwrap_or_default());
        Sha256::digest(digests.concat()).into()
    }

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
            .map_err(|error| not_usable(&error))?;
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
    let authorities = authorities(pem).map_err(|what| Flaw::ClientAuthorities(what.into()))?;
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|_| Flaw::ClientAuthorities("cannot be used".into()))
}

fn not_usable(error: &Error) -> Flaw {
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
