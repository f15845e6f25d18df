//! The connection to the service. Token and certificates are read from their files each time, so
//! they can be replaced without a restart.

use std::{fs, path::Path, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use zeroize::Zeroizing;

use super::fault::Fault;
use crate::edge::{Token, WatchSettings, settings::Identity};

/// A broken connection is found before the stream has been silent for too long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) fn endpoint(
    settings: &WatchSettings,
    url: &str,
    limit: Duration,
) -> Result<Endpoint, Fault> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(limit)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    if url.starts_with("http://") {
        return Ok(endpoint);
    }
    Ok(endpoint.tls_config(tls(settings)?)?)
}

fn tls(settings: &WatchSettings) -> Result<ClientTlsConfig, Fault> {
    let tls = ClientTlsConfig::new();
    let tls = match &settings.authorities {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("AUTH_CA_FILE", path)?)),
        None => tls.with_native_roots(),
    };
    let Some(Identity { certificate, key }) = &settings.identity else {
        return Ok(tls);
    };
    let certificate = read("AUTH_CLIENT_CERT_FILE", certificate)?;
    let key = Zeroizing::new(read("AUTH_CLIENT_KEY_FILE", key)?);
    Ok(tls.identity(tonic::transport::Identity::from_pem(certificate, &*key)))
}

/// The value of `authorization`, which no log shows.
pub(super) fn authorization(token: &Token) -> Result<MetadataValue<Ascii>, Fault> {
    let token = match token {
        Token::Text(token) => token.clone(),
        Token::File(path) => from_file(path)?,
    };
    let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let value = MetadataValue::try_from(value.as_str());
    let mut value = value.map_err(|_| file("AUTH_TOKEN_FILE", "holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn from_file(path: &Path) -> Result<SecretString, Fault> {
    let content = Zeroizing::new(read("AUTH_TOKEN_FILE", path)?);
    let text = str::from_utf8(&content).map_err(|_| file("AUTH_TOKEN_FILE", "holds no token"))?;
    Ok(text.trim_end().into())
}

fn read(variable: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| {
        let what = format!("cannot read the file ({})", error.kind());
        file(variable, what)
    })
}

fn file(variable: &'static str, what: impl Into<String>) -> Fault {
    let what = what.into();
    Fault::File { variable, what }
}
