//! The URL of a Postgres server.
//!
//! tokio-postgres parses it, except for two parameters of libpq that it does not fully know:
//! `sslmode` (it lacks `verify-full`) and `sslrootcert`. They are taken out before, without a
//! URL type, because none accepts several hosts.

use std::{error::Error, sync::Arc};

use rustls::RootCertStore;
use tokio_postgres::config::{Host, SslMode};

use super::value::{authorities, one_of, system_authorities};
use crate::db::{Postgres, Trust};

/// Time limits that the URL can override: a lost server must be noticed in seconds.
const DEFAULTS: &str = "connect_timeout=2&tcp_user_timeout=10&keepalives_idle=30\
    &keepalives_interval=5&keepalives_retries=3&application_name=auth-service";

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
            let url = format!("{start}?{DEFAULTS}&{others}");
            let mut config = url.parse().map_err(|error| explain(&error))?;
            require_one_host(&config)?;
            config.ssl_mode(ssl_mode);
            Ok(config)
        })
        .collect::<Result<_, String>>()?;
    Ok(Postgres { servers, trust })
}

/// A root certificate requires TLS and the check of the server in every mode.
fn encryption(
    mode: Option<Mode>,
    root_cert: Option<RootCertStore>,
) -> Result<(SslMode, Trust), String> {
    let roots = match (mode.unwrap_or(Mode::Prefer), root_cert) {
        (Mode::Disable, None) => return Ok((SslMode::Disable, Trust::Anybody)),
        (Mode::Prefer, None) => return Ok((SslMode::Prefer, Trust::Anybody)),
        (Mode::Require, None) => return Ok((SslMode::Require, Trust::Anybody)),
        (Mode::Disable, Some(_)) => {
            return Err("sslrootcert has no meaning with sslmode=disable".into());
        }
        (_, Some(roots)) => roots,
        (Mode::VerifyFull, None) => {
            system_authorities().map_err(|what| format!("sslrootcert {what}"))?
        }
    };
    Ok((SslMode::Require, Trust::Authorities(Arc::new(roots))))
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
    let after = |text: &str| url.find(text).map_or(0, |index| index + text.len());
    let from = after("://").max(after("@"));
    let (before, rest) = url.split_at(from);
    let (hosts, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let hosts = hosts.split(',');
    hosts.map(|host| format!("{before}{host}{after}")).collect()
}

fn require_one_host(config: &tokio_postgres::Config) -> Result<(), String> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".into());
    }
    let is_list = |host: &Host| matches!(host, Host::Tcp(name) if name.contains(','));
    if config.get_hosts().iter().any(is_list) || config.get_hostaddrs().len() > 1 {
        return Err("must name several hosts like postgres://user@one:5432,two:5432/name".into());
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
