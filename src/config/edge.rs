//! The variables of `auth-service edge`, and its configuration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;

use super::{
    Args, Problem, log,
    reader::Reader,
    server::{ADMIN_ADDR, overlap},
    value::{DAY, address, authorities, duration, each, one_of},
    variable::{secret, value, variables},
};
use crate::{
    edge::{Identity, Settings, Token, WatchSettings, WhenStale},
    telemetry,
    tls::server::{Flaw, ServerFiles},
};

variables! {
    "Edge"

    /// Where gateways ask: Envoy's Check and forward-auth; port 0 picks a free one
    EDGE_ADDR: SocketAddr = value("IP:PORT", address).default("127.0.0.1:9001");
    /// Where the service is: http://host:port or https://host:port, comma-separated; the next
    /// one is tried when one is lost
    AUTH_URL: Vec<String> = value("URL", |text| each(text, url));
    /// Internal token of this caller, which needs the scope `keys`
    AUTH_TOKEN: SecretString = secret("TOKEN", token);
    /// CAs of the service's certificate, PEM; read again for each connection
    AUTH_CA_FILE: PathBuf = value("PATH", ca_file).when_unset("the system's");
    /// Client certificate chain for mTLS, PEM; read again for each connection
    AUTH_CLIENT_CERT_FILE: PathBuf = value("PATH", |text| Ok(text.into()));
    /// Private key of the client certificate, PEM, not encrypted
    AUTH_CLIENT_KEY_FILE: PathBuf = value("PATH", |text| Ok(text.into()));
    /// How long new revocations may be unknown, from 1s to 1day. A heartbeat comes each second, so
    /// less than 5s is for trials
    EDGE_MAX_STALENESS: Duration = value("DURATION", |text| duration(text, STALENESS))
        .default("60s");
    /// The answers after that: serve accepts tokens until the keys are too old, refuse answers 503
    EDGE_WHEN_STALE: WhenStale = value("MODE", |text| one_of(text, &MODES)).default("serve");
}

const STALENESS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
const MODES: [(&str, WhenStale); 2] = [("serve", WhenStale::Serve), ("refuse", WhenStale::Refuse)];

/// The configuration of `edge`.
#[derive(Clone, Debug)]
pub struct Edge {
    pub edge_addr: SocketAddr,
    pub admin_addr: SocketAddr,
    pub settings: Settings,
    pub log: telemetry::Settings,
}

/// Reads no variable of the service itself.
pub fn edge(args: &Args) -> Result<Edge, Vec<Problem>> {
    let mut reader = Reader::new(args, Path::new(""));
    let (edge_addr, admin_addr) = (reader.value(&EDGE_ADDR), reader.value(&ADMIN_ADDR));
    let what = "must not be where EDGE_ADDR is";
    reader.require(
        !overlap(edge_addr, admin_addr),
        &ADMIN_ADDR,
        &EDGE_ADDR,
        what,
    );
    let (max_staleness, when_stale) = (
        reader.value(&EDGE_MAX_STALENESS),
        reader.value(&EDGE_WHEN_STALE),
    );
    let log = log::read_without_traces(&mut reader);
    let watch = read_watch(&mut reader);
    let edge = watch.map(|watch| Edge {
        edge_addr,
        admin_addr,
        settings: Settings {
            watch,
            max_staleness,
            when_stale,
        },
        log,
    });
    reader.finish(edge).map(|(edge, _)| edge)
}

fn read_watch(reader: &mut Reader<'_>) -> Option<WatchSettings> {
    if !reader.is_set(&AUTH_URL.declaration) {
        reader.problem(AUTH_URL.name(), "is required: where the service is");
    }
    let urls = reader.optional(&AUTH_URL);
    let token = reader.optional(&AUTH_TOKEN);
    let file = reader.file(&AUTH_TOKEN).map(Token::File);
    let authorities = reader.optional(&AUTH_CA_FILE);
    let identity = read_identity(reader);
    let urls = urls?;
    if !urls.iter().any(|url| url.starts_with("https://")) {
        let no_effect = "has no effect without a URL of https:// in AUTH_URL";
        for variable in [&AUTH_CA_FILE, &AUTH_CLIENT_CERT_FILE] {
            reader.require(
                !reader.is_set(&variable.declaration),
                variable,
                &AUTH_URL,
                no_effect,
            );
        }
    }
    Some(WatchSettings {
        urls,
        token: file.or(token.map(Token::Text)),
        authorities,
        identity,
    })
}

fn read_identity(reader: &mut Reader<'_>) -> Option<Identity> {
    let (certificate, key) = (&AUTH_CLIENT_CERT_FILE, &AUTH_CLIENT_KEY_FILE);
    reader.refuse_without(certificate, key, "needs AUTH_CLIENT_CERT_FILE");
    reader.refuse_without(key, certificate, "needs AUTH_CLIENT_KEY_FILE");
    let paths = (reader.optional(certificate), reader.optional(key));
    let identity = Identity {
        certificate: paths.0?,
        key: paths.1?,
    };
    // The files of a server are checked alike.
    let files = ServerFiles {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        client_authorities: None,
    };
    let mismatch = "is not the key of the certificate in AUTH_CLIENT_CERT_FILE";
    let (variable, what) = match files.read().and_then(|content| content.parse()) {
        Ok(_) => return Some(identity),
        Err(Flaw::Certificate(what) | Flaw::ClientAuthorities(what)) => (certificate, what),
        Err(Flaw::Key(what)) => (key, what),
        Err(Flaw::KeyMismatch) => (key, mismatch.to_owned()),
    };
    reader.problem(variable.name(), what);
    None
}

/// The scheme, the host and the port, without anything else.
fn url(text: &str) -> Result<String, String> {
    let server = |url: http::Uri| {
        let (scheme, authority) = (url.scheme_str()?, url.authority()?);
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host)?;
        let has_port = port.strip_prefix(':').map(str::parse::<u16>);
        let is_server = ["http", "https"].contains(&scheme)
            && !host.is_empty()
            && (port.is_empty() || matches!(has_port, Some(Ok(1..))))
            && url.path_and_query().is_none_or(|path| path == "/");
        is_server.then(|| format!("{scheme}://{authority}"))
    };
    let server = text.trim().parse().ok().and_then(server);
    server.ok_or_else(|| "must be http://host:port or https://host:port, without a path".into())
}

fn token(text: &str) -> Result<SecretString, String> {
    // The value of an HTTP header can hold nothing else.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be a token of visible ASCII characters".into());
    }
    Ok(text.into())
}

fn ca_file(path: &str) -> Result<PathBuf, String> {
    authorities(path)?;
    Ok(path.into())
}
