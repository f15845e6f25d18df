//! How the text of a variable becomes a value. Each error says which text would be right.

use std::{
    fmt::Display, fs, io, net::SocketAddr, ops::RangeInclusive, path::Path, str::FromStr,
    time::Duration,
};

use rustls::RootCertStore;

use crate::tls;

use crate::password::{Blocklist, BlocklistError};

pub(super) fn text(value: &str) -> Result<String, String> {
    if value.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(value.to_owned())
}

pub(super) fn address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| "must be an IP address with a port, such as 127.0.0.1:50051".into())
}

/// The address of a gRPC server.
pub(super) fn http_url(value: &str) -> Result<String, String> {
    let is_plain = |url: &http::Uri| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|at| !at.as_str().contains('@'))
            && url.path() == "/"
            && url.query().is_none()
    };
    let url = value.parse().ok().filter(is_plain);
    url.map(|_| value.to_owned())
        .ok_or_else(|| "must be http://host:port or https://host:port".into())
}

pub(super) fn number<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl FnOnce(&str) -> Result<T, String> {
    move |value| {
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
    }
}

pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |value| {
        let duration = humantime::parse_duration(value).ok();
        duration
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let [min, max] = [*range.start(), *range.end()].map(humantime::format_duration);
                format!("must be a duration from {min} to {max}, such as 90s, 60m or 24h")
            })
    }
}

pub(super) fn one_of<T: Copy>(choices: &[(&str, T)]) -> impl FnOnce(&str) -> Result<T, String> {
    move |value| {
        let found = choices.iter().find(|(name, _)| *name == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}

/// The authorities in a PEM file.
pub(super) fn authorities(path: &str) -> Result<RootCertStore, String> {
    let pem = fs::read(path).map_err(|error| unreadable(&error))?;
    Ok(tls::authorities(&pem)?)
}

/// The authorities that the operating system trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("is needed, since this system trusts no authority".into());
    }
    Ok(roots)
}

/// A list of passwords that nobody may set.
pub(super) fn blocklist(path: &str) -> Result<Blocklist, String> {
    Blocklist::open(Path::new(path)).map_err(|error| match error {
        BlocklistError::Io(error) => unreadable(&error),
        malformed => malformed.to_string(),
    })
}

/// Says why without the path, which is a value too.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("cannot read the file ({})", error.kind())
}
