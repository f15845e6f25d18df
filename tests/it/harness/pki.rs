//! A certificate authority and the certificates that it signs.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, SanType,
    SigningKey as _, date_time_ymd,
};
use x509_cert::{
    Certificate, Version,
    der::{Decode as _, Encode as _, asn1::BitString},
};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be taken for each other.
        let name = format!("authority {}", getrandom::u32().expect("randomness"));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names: DNS names, addresses, or URIs.
    pub fn sign(&self, names: &[&str]) -> Pem {
        self.sign_until(names, 3000)
    }

    /// Like `sign`, valid until this year begins.
    pub fn sign_until(&self, names: &[&str], year: i32) -> Pem {
        let (uris, others): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let others: Vec<_> = others.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(others).expect("names");
        for uri in uris {
            let uri = uri.try_into().expect("ASCII");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let certificate = params.signed_by(&key, issuer).expect("a certificate");
        Pem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pem {
    /// A certificate that nobody else signed, valid in these years. It may also be an authority.
    pub fn self_signed(names: &[&str], is_ca: bool, years: [i32; 2]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A self-signed certificate of X.509 version 1, which has no extensions.
    pub fn version_1() -> Self {
        let params = CertificateParams::default();
        let key = KeyPair::generate().expect("a key");
        let version_3 = params.self_signed(&key).expect("a certificate");
        let mut certificate = Certificate::from_der(version_3.der()).expect("a certificate");
        certificate.tbs_certificate.version = Version::V1;
        certificate.tbs_certificate.extensions = None;
        let body = certificate.tbs_certificate.to_der().expect("DER");
        let signature = key.sign(&body).expect("a signature");
        certificate.signature = BitString::from_bytes(&signature).expect("bits");
        let der = certificate.to_der().expect("DER");
        Self {
            certificate: pem(&der),
            key: key.serialize_pem(),
        }
    }

    /// Writes `cert.pem` and `key.pem`.
    pub fn write(&self, folder: &Path) {
        fs::write(folder.join("cert.pem"), &self.certificate).expect("a file");
        fs::write(folder.join("key.pem"), &self.key).expect("a file");
    }
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    let lines = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}
