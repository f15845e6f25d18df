//! The URL of a Postgres server.
//!
//! tokio-postgres parses it, except for two parameters of libpq that it does not fully know:
//! `sslmode` (it lacks `verify-full`) and `sslrootcert`. They are taken out before, without a
//! URL type, because none accepts several hosts.

use std::{error::Error, sync::Arc, time::Duration};

use rustls::RootCertStore;
use tokio_postgres::config::{Host, SslMode};

use super::value::{authorities, one_of, system_authorities};
use crate::db::{Postgres, Trust};

/// libpq's `sslmode`, without `allow` and `verify-ca`, which check less than they seem to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    /// Encrypted if the server can.
    Prefer,
    Require,
    /// Encrypted; the server's certificate and host name are checked.
    VerifyFull,
}

const MODES: [(&str, Mode); 4] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-full", Mode::VerifyFull),
];

pub(super) fn parse(url: &str) -> Result<Postgres, String> {
    let (start, parameters) = split_parameters(url);
    let mut mode = None;
    let mut root_cert = None;
    let mut others = Vec::new();
    for parameter in parameters.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", text)) => {
                mode = Some(one_of(text, &MODES).map_err(|what| format!("sslmode {what}"))?);
            }
            Some(("sslrootcert", path)) => root_cert = Some(certificates(path)?),
            _ => others.push(parameter),
        }
    }
    let (ssl_mode, trust) = encryption(mode, root_cert)?;
    let others = others.join("&");
    let servers = one_url_each(start)
        .iter()
        .map(|start| {
            let url = format!("{start}?{others}");
            let mut config = url.parse().map_err(|error| explain(&error))?;
            complete(&mut config, ssl_mode)?;
            Ok(config)
        })
        .collect::<Result<_, String>>()?;
    Ok(Postgres { servers, trust })
}

/// A root certificate is there to be checked, so naming one also excludes plain text.
fn encryption(
    mode: Option<Mode>,
    root_cert: Option<RootCertStore>,
) -> Result<(SslMode, Trust), String> {
    let checked = |roots| Ok((SslMode::Require, Trust::Authorities(Arc::new(roots))));
    match (mode.unwrap_or(Mode::Prefer), root_cert) {
        (Mode::Disable, Some(_)) => Err("sslrootcert has no meaning with sslmode=disable".into()),
        (_, Some(roots)) => checked(roots),
        (Mode::VerifyFull, None) => {
            checked(system_authorities().map_err(|what| format!("sslrootcert {what}"))?)
        }
        (Mode::Disable, None) => Ok((SslMode::Disable, Trust::Anybody)),
        (Mode::Prefer, None) => Ok((SslMode::Prefer, Trust::Anybody)),
        (Mode::Require, None) => Ok((SslMode::Require, Trust::Anybody)),
    }
}

/// Splits at the `?` that begins the parameters. A `?` in the password does not count.
fn split_parameters(url: &str) -> (&str, &str) {
    let hosts = url.find('@').unwrap_or(0);
    match url[hosts..].find('?') {
        Some(index) => (&url[..hosts + index], &url[hosts + index + 1..]),
        None => (url, ""),
    }
}

/// One URL for each host. With one URL for all, tokio-postgres would try them in turn and
/// wait without limit for a server that accepts the connection and then is silent.
fn one_url_each(url: &str) -> Vec<String> {
    let hosts_from = [
        url.find("://").map(|index| index + 3),
        url.find('@').map(|index| index + 1),
    ];
    let from = hosts_from.into_iter().flatten().max().unwrap_or(0);
    let to = url[from..]
        .find('/')
        .map_or(url.len(), |index| from + index);
    url[from..to]
        .split(',')
        .map(|host| format!("{}{host}{}", &url[..from], &url[to..]))
        .collect()
}

/// Adds time limits that the URL does not set: a lost server must be noticed in seconds.
fn complete(config: &mut tokio_postgres::Config, ssl_mode: SslMode) -> Result<(), String> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".into());
    }
    let is_list = |host: &Host| matches!(host, Host::Tcp(name) if name.contains(','));
    if config.get_hosts().iter().any(is_list) || config.get_hostaddrs().len() > 1 {
        return Err("must name several hosts like postgres://user@one:5432,two:5432/name".into());
    }
    config.ssl_mode(ssl_mode);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(2));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(10));
    }
    if config.get_keepalives_idle() == tokio_postgres::Config::new().get_keepalives_idle() {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    if config.get_application_name().is_none() {
        config.application_name("auth-service");
    }
    Ok(())
}

/// The path may be percent-encoded like any value in a URL. tokio-postgres decodes it in the
/// place of a parameter that it knows.
fn certificates(encoded: &str) -> Result<RootCertStore, String> {
    let config = format!("postgres://user@host?application_name={encoded}")
        .parse::<tokio_postgres::Config>()
        .map_err(|_| "sslrootcert is not a percent-encoded path")?;
    let path = config.get_application_name().unwrap_or_default();
    authorities(path).map_err(|what| format!("sslrootcert {what}"))
}

/// Names the wrong parameter only if tokio-postgres knows it: an unknown name may be a secret.
fn explain(error: &tokio_postgres::Error) -> String {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    if cause.starts_with("invalid value for option") {
        format!("has an {cause}")
    } else if cause.starts_with("unknown option") {
        "has an unknown parameter".into()
    } else {
        "must be like postgres://user:password@host:5432/name".into()
    }
}
