use rcgen::{CertifiedKey as Issued, generate_simple_self_signed};
use rustls::{
    ClientConnection, ServerConfig, ServerConnection, SignatureAlgorithm,
    crypto::ring::sign::any_supported_type,
    server::ResolvesServerCert,
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};

use super::*;

/// Schemes that ring verifies, and others.
const SCHEMES: [SignatureScheme; 7] = [
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
];
const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// A relay without the key of the certificate that it presents: its signature is empty.
#[derive(Clone, Copy, Debug)]
struct Relay(SignatureScheme);

impl SigningKey for Relay {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(*self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Relay {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

fn issue() -> Issued<rcgen::KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Each kind of trust with each version of TLS.
fn clients(certificate: &CertificateDer<'static>) -> Vec<(Trust, Version)> {
    let trusts = || {
        [
            Trust::Anybody,
            Trust::Chain(vec![certificate.clone()]),
            Trust::Name(vec![certificate.clone()]),
        ]
    };
    let all = VERSIONS.into_iter();
    all.flat_map(|version| trusts().map(|trust| (trust, version)))
        .collect()
}

fn server(certificate: &CertificateDer<'static>, key: Arc<dyn SigningKey>) -> ServerConnection {
    let certified = CertifiedKey::new(vec![certificate.clone()], key);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// The client's result of a handshake.
fn handshake(trust: Trust, version: Version, mut server: ServerConnection) -> Result<(), Error> {
    let client = Client {
        trust,
        identity: None,
        versions: version..=version,
        sends_name: true,
    };
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client.config()?), name)?;
    while client.is_handshaking() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        server.read_tls(&mut sent.as_slice()).unwrap();
        server
            .process_new_packets()
            .expect("the client sent no alert");
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        let mut unread = answer.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused() {
    let issued = issue();
    let certificate = issued.cert.der();
    for scheme in SCHEMES {
        for (trust, version) in clients(certificate) {
            let relay = server(certificate, Arc::new(Relay(scheme)));
            let case = format!("{scheme:?}, {trust:?}, {version:?}");
            handshake(trust, version, relay).expect_err(&case);
        }
    }
}

#[test]
fn a_server_with_the_key_of_its_certificate_is_accepted() {
    let issued = issue();
    let certificate = issued.cert.der();
    let key = Identity::parse_key(issued.signing_key.serialize_pem().as_bytes()).unwrap();
    for (trust, version) in clients(certificate) {
        let key = any_supported_type(&key).unwrap();
        handshake(trust, version, server(certificate, key)).unwrap();
    }
}
