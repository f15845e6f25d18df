//! The servers of the URL, each as one configuration. With one for all, tokio-postgres would try
//! them in turn and wait without limit for a server that accepts the connection and is silent.

use std::{net::IpAddr, time::Duration};

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslMode, SslNegotiation},
};

use super::parameters::Parameters;
use crate::db::Encryption;

/// A lost server must be noticed in seconds.
const CONNECT_TIMEOUT: i32 = 2;
const TCP_USER_TIMEOUT: i32 = 10_000;
const KEEPALIVES_IDLE: i32 = 30;
const KEEPALIVES_INTERVAL: i32 = 5;
const KEEPALIVES_COUNT: i32 = 3;

const DEFAULT_PORT: u16 = 5432;

const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

const NEGOTIATIONS: [(&str, SslNegotiation); 2] = [
    ("postgres", SslNegotiation::Postgres),
    ("direct", SslNegotiation::Direct),
];

pub(super) fn read(given: &Parameters, encryption: Encryption) -> Result<Vec<Config>, String> {
    let common = common(given, encryption)?;
    let hosts = list(given.text("host"));
    let addresses = list(given.text("hostaddr"));
    let ports = list(given.text("port"));
    let count = hosts.len().max(addresses.len());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("hostaddr must name as many addresses as the URL has hosts".into());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("port must name one port, or as many as the URL has hosts".into());
    }
    if count == 0 {
        return Err(NO_HOST.into());
    }
    (0..count)
        .map(|index| {
            let host = hosts.get(index).copied().unwrap_or_default();
            let address = addresses.get(index).copied().unwrap_or_default();
            let port = ports.get(index).or(ports.first());
            let mut server = common.clone();
            server.port(port.map_or(Ok(DEFAULT_PORT), |port| parse_port(port))?);
            locate(&mut server, host, address, encryption)?;
            Ok(server)
        })
        .collect()
}

const NO_HOST: &str = "names no host: libpq would use a socket, name its folder like \
    postgres://user@/name?host=/var/run/postgresql";

fn list(text: Option<&str>) -> Vec<&str> {
    text.map(|text| text.split(',').collect())
        .unwrap_or_default()
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.trim().parse().ok().filter(|port| *port > 0);
    let hint = "port must be a number from 1 to 65535 (write a : or / in a password as %3A or %2F)";
    port.ok_or_else(|| hint.into())
}

/// Where the server is. As in libpq, an address replaces the look-up of the host, whose name is
/// still the one to verify.
fn locate(
    server: &mut Config,
    host: &str,
    address: &str,
    encryption: Encryption,
) -> Result<(), String> {
    if address.is_empty() {
        return match host.chars().next() {
            None => Err(NO_HOST.into()),
            Some('/') => {
                // No certificate has the name of a socket. libpq does not encrypt there either.
                server.host_path(host).ssl_mode(SslMode::Disable);
                Ok(())
            }
            Some('@') => {
                Err("host must not begin with @: abstract sockets are not supported".into())
            }
            Some(_) if host.contains(['@', '/']) => Err(
                "host must be a name or an address (write an @ or / in a password as %40 or %2F)"
                    .into(),
            ),
            Some(_) => {
                server.host(host);
                Ok(())
            }
        };
    }
    let ip: IpAddr = address
        .parse()
        .map_err(|_| "hostaddr must be an IP address")?;
    if host.is_empty() && encryption == Encryption::VerifiedName {
        return Err("hostaddr needs a host, whose name sslmode=verify-full checks".into());
    }
    match host {
        // tokio-postgres encrypts only to a host.
        "" => server.host(address),
        _ => server.host(host).hostaddr(ip),
    };
    Ok(())
}

/// What holds for all servers of the URL.
fn common(given: &Parameters, encryption: Encryption) -> Result<Config, String> {
    let mut config = Config::new();
    if let Some(user) = given.text("user") {
        config.user(user);
    }
    if let Some(password) = given.password.as_deref().filter(|text| !text.is_empty()) {
        config.password(password);
    }
    if let Some(name) = given.text("dbname") {
        config.dbname(name);
    }
    if let Some(options) = given.text("options") {
        config.options(options);
    }
    let name = given.get("application_name");
    let name = name.or(given.get("fallback_application_name"));
    config.application_name(name.unwrap_or("auth-service"));
    config.ssl_mode(match encryption {
        Encryption::Never => SslMode::Disable,
        Encryption::OnDemand | Encryption::IfPossible => SslMode::Prefer,
        Encryption::Required | Encryption::VerifiedChain | Encryption::VerifiedName => {
            SslMode::Require
        }
    });
    if let Some(binding) = given.choice("channel_binding", &BINDINGS)? {
        config.channel_binding(binding);
    }
    if let Some(negotiation) = given.choice("sslnegotiation", &NEGOTIATIONS)? {
        if negotiation == SslNegotiation::Direct && config.get_ssl_mode() != SslMode::Require {
            return Err(
                "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full".into(),
            );
        }
        config.ssl_negotiation(negotiation);
    }
    limit_times(&mut config, given)?;
    Ok(config)
}

/// Zero and less mean no limit, or the one of the operating system.
fn limit_times(config: &mut Config, given: &Parameters) -> Result<(), String> {
    let positive = |name, default| {
        let number = given.integer(name)?.unwrap_or(default);
        Ok::<_, String>(u32::try_from(number).ok().filter(|number| *number > 0))
    };
    let seconds = |number: u32| Duration::from_secs(number.into());
    if let Some(limit) = positive("connect_timeout", CONNECT_TIMEOUT)? {
        config.connect_timeout(seconds(limit));
    }
    // In milliseconds, unlike the others.
    if let Some(limit) = positive("tcp_user_timeout", TCP_USER_TIMEOUT)? {
        config.tcp_user_timeout(Duration::from_millis(limit.into()));
    }
    config.keepalives(given.integer("keepalives")? != Some(0));
    if let Some(idle) = positive("keepalives_idle", KEEPALIVES_IDLE)? {
        config.keepalives_idle(seconds(idle));
    }
    if let Some(interval) = positive("keepalives_interval", KEEPALIVES_INTERVAL)? {
        config.keepalives_interval(seconds(interval));
    }
    if let Some(count) = positive("keepalives_count", KEEPALIVES_COUNT)? {
        config.keepalives_retries(count);
    }
    Ok(())
}
