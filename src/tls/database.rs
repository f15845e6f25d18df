//! The TLS client for Postgres, which checks a server as libpq does for each `sslmode`.
//!
//! rustls refuses X.509 v1 certificates, and authorities that serve as a server. libpq accepts
//! both, so what is checked is decided here: nothing, the chain, or the chain and the name.
//! The signature of the handshake is always checked with the key of the certificate: channel
//! binding trusts that the server has the key of the certificate that it presents. A server with
//! a kind of key that ring does not know (P-521, Ed448) is therefore refused.

use std::{ops::RangeInclusive, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::{
    chain::{Chain, explain},
    public_key::PublicKey,
};

/// The ALPN identifier of Postgres, which `sslnegotiation=direct` requires.
const ALPN: &[u8] = b"postgresql";

#[derive(Debug)]
pub struct Client {
    pub trust: Trust,
    pub identity: Option<Identity>,
    pub versions: RangeInclusive<Version>,
    /// Whether the server's name is sent (SNI).
    pub sends_name: bool,
}

/// Which server is accepted.
#[derive(Debug)]
pub enum Trust {
    Anybody,
    /// One with a certificate from these authorities.
    Chain(Vec<CertificateDer<'static>>),
    /// One with a certificate for its name from these authorities.
    Name(Vec<CertificateDer<'static>>),
}

/// The certificate of this client, with the intermediate ones, and its key.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(pem);
        key.map_err(|_| "holds no private key (PEM, not encrypted)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

impl Client {
    /// An error is about the identity.
    pub fn config(self) -> Result<ClientConfig, Error> {
        let versions = [Version::Tls12, Version::Tls13].into_iter();
        let versions = versions.filter(|version| self.versions.contains(version));
        let versions: Vec<_> = versions.map(Version::supported).collect();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(self.trust)?));
        let mut config = match self.identity {
            Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = self.sends_name;
        Ok(config)
    }
}

#[derive(Debug)]
struct Verifier {
    /// `None` accepts anybody.
    chain: Option<Chain>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trust: Trust) -> Result<Self, Error> {
        Ok(Self {
            chain: match trust {
                Trust::Anybody => None,
                Trust::Chain(authorities) => Some(Chain::new(authorities, false)?),
                Trust::Name(authorities) => Some(Chain::new(authorities, true)?),
            },
            algorithms: ring::default_provider().signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            let checked = chain.check(end_entity, intermediates, server_name, now);
            checked.map_err(|error| explain(error, end_entity))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        PublicKey::of(cert)?.verify_tls12(message, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        PublicKey::of(cert)?.verify_tls13(message, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
