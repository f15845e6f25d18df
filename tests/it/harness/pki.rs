//! A certificate authority and the certificates that it signs.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
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
    /// Writes `cert.pem` and `key.pem`.
    pub fn write(&self, folder: &Path) {
        fs::write(folder.join("cert.pem"), &self.certificate).expect("a file");
        fs::write(folder.join("key.pem"), &self.key).expect("a file");
    }
}
