//! The check of a Postgres server's certificate: its chain, and perhaps its name.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _, verify_server_name},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::certificate;

#[derive(Debug)]
pub(super) struct Chain {
    webpki: Arc<WebPkiServerVerifier>,
    /// The authorities. A server may present one of them itself, as self-signed ones do.
    authorities: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl Chain {
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        checks_name: bool,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        // Each was tried when it was read.
        roots.add_parsable_certificates(authorities.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self {
            webpki: webpki
                .build()
                .map_err(|error| Error::General(error.to_string()))?,
            authorities,
            checks_name,
        })
    }

    pub(super) fn check(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.authorities.contains(server) {
            check_time(server, now)?;
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
            }
            return Ok(());
        }
        // webpki checks the name last, after the chain.
        let checked = self
            .webpki
            .verify_server_cert(server, intermediates, name, &[], now);
        match checked {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(()),
            checked => checked.map(drop),
        }
    }
}

fn check_time(server: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let parsed = certificate::parse(server).map_err(malformed)?;
    let [not_before, not_after] = [parsed.not_before, parsed.not_after].map(|time| {
        let seconds = u64::try_from(time.as_secs()).unwrap_or_default();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    });
    let wrong = if now < not_before {
        CertificateError::NotValidYetContext {
            time: now,
            not_before,
        }
    } else if now > not_after {
        CertificateError::ExpiredContext {
            time: now,
            not_after,
        }
    } else {
        return Ok(());
    };
    Err(Error::InvalidCertificate(wrong))
}

/// Says what to do about a certificate without extensions: its chain and its name cannot be
/// checked, although libpq does.
pub(super) fn explain(error: Error, server: &CertificateDer<'_>) -> Error {
    if certificate::is_version_1(server) {
        let hint = "the server's certificate is X.509 v1, which this sslmode cannot check: give \
                    the server a v3 certificate, or use sslmode=require without sslrootcert";
        return Error::General(hint.to_owned());
    }
    error
}
