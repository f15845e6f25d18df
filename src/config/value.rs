//! Parsers of variables. Each error says which text would be right.

use std::{
    fmt::Display, fs, io, net::SocketAddr, ops::RangeInclusive, path::Path, str::FromStr,
    time::Duration,
};

use rustls::{RootCertStore, pki_types::CertificateDer};
use secrecy::SecretString;

use super::secret_text;
use crate::tls;

pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) fn text(text: &str) -> Result<String, String> {
    let is_line = !text.chars().any(char::is_control);
    let line = is_line.then(|| text.to_owned());
    line.ok_or_else(|| "must not contain control characters".into())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address with a port, such as 127.0.0.1:50051".into())
}

/// The address of a gRPC server, from a URL. gRPC's paths are those of its methods, so the path
/// of the URL, which OTLP over HTTP would use, is left out.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let server = |url: http::Uri| {
        let scheme = url.scheme_str()?;
        let authority = url.authority()?;
        let is_plain = matches!(scheme, "http" | "https") && !authority.as_str().contains('@');
        is_plain.then(|| format!("{scheme}://{authority}"))
    };
    let server = text.parse().ok().and_then(server);
    server.ok_or_else(|| "must be http://host:port or https://host:port".into())
}

pub(super) fn number<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let (min, max) = range.into_inner();
    number.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// `M` and `y` are refused: a month is easily written for a minute, and neither has a fixed
/// length.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    const CALENDAR_UNITS: [&str; 8] = ["months", "month", "M", "years", "year", "yr", "yrs", "y"];
    let mut units = text.split(|c: char| !c.is_alphabetic());
    if units.any(|unit| CALENDAR_UNITS.contains(&unit)) {
        return Err("must not be in months (M) or years (y); m is minutes, d is days".into());
    }
    let duration = humantime::parse_duration(text).ok();
    let duration = duration.filter(|duration| range.contains(duration));
    duration.ok_or_else(|| {
        let [min, max] = [*range.start(), *range.end()].map(in_days_or_less);
        format!("must be a duration from {min} to {max}, such as 90s, 60m or 24h")
    })
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

fn in_days_or_less(duration: Duration) -> String {
    let days = duration.as_secs() / DAY.as_secs();
    if days > 1 && duration == DAY * u32::try_from(days).unwrap_or(u32::MAX) {
        return format!("{days}days");
    }
    humantime::format_duration(duration).to_string()
}

pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// Parses each comma-separated entry; an error names the entry by its number.
pub(super) fn each<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let parsed = text.split(',').enumerate();
    parsed
        .map(|(index, entry)| parse(entry).map_err(|what| format!("entry {} {what}", index + 1)))
        .collect()
}

pub(super) fn authorities(path: &str) -> Result<RootCertStore, String> {
    let pem = fs::read(path).map_err(|error| unreadable(&error))?;
    Ok(tls::authorities(&pem)?)
}

/// Like [`authorities`], as certificates.
pub(super) fn trusted(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    authorities(path)?;
    certificates(path)
}

pub(super) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| unreadable(&error))?;
    Ok(tls::certificates(&pem)?)
}

pub(super) fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_certificates()?);
    Ok(roots)
}

pub(super) fn system_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        return Err("is needed, since this system trusts no authority".into());
    }
    Ok(found)
}

/// The text of a secret's file, checked like that of a variable.
pub(super) fn secret_file(path: &Path) -> Result<SecretString, String> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let line = secret_text::without_line_break(&text);
    if line.is_empty() {
        return Err("the file is empty".into());
    }
    secret_text::check(line)?;
    Ok(line.into())
}

/// Leaves the path out, because it is the value of a variable.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("cannot read the file ({})", error.kind())
}
