//! What others on the network can read, reach or replace.

use std::net::{IpAddr, SocketAddr};

use tokio_postgres::config::Host;

use crate::{
    config::Config,
    db::{Postgres, Url},
    grpc::Exposure,
    outbox::kafka::{SaslMechanism, Settings},
};

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let database = match &config.database.url {
        Url::Postgres(postgres) => database(postgres),
        Url::Sqlite(_) => None,
    };
    let kafka = config.kafka.as_ref().and_then(kafka);
    let others = [admin(config.admin_addr), database, kafka].map(|found| found.map(str::to_owned));
    [grpc(config)].into_iter().chain(others).flatten().collect()
}

fn grpc(config: &Config) -> Option<String> {
    let is_open = config.tls.is_none() && !is_loopback(config.grpc_addr.ip());
    is_open.then(|| plaintext_warning(config.exposure))
}

fn plaintext_warning(exposure: Exposure) -> String {
    let (secrets, keys) = if exposure.plaintext_keys {
        ("passwords, tokens and the signing key", "")
    } else {
        let keys = "; GetSigningKey and Watch are refused except on loopback";
        ("passwords and tokens", keys)
    };
    format!(
        "GRPC_ADDR: OPEN TO THE NETWORK WITHOUT TLS: unless something else encrypts, {secrets} \
         can be read on the way; set TLS_CERT_FILE and TLS_KEY_FILE{keys}"
    )
}

pub(super) fn admin(addr: SocketAddr) -> Option<&'static str> {
    let is_open = !is_loopback(addr.ip());
    is_open.then_some(
        "ADMIN_ADDR: OPEN TO THE NETWORK: the metrics and probes need no credentials; allow only \
         the probes and Prometheus to reach this port",
    )
}

fn database(postgres: &Postgres) -> Option<&'static str> {
    let is_remote = postgres.servers.iter().any(has_remote_host);
    (is_remote && !postgres.checks_server()).then_some(
        "DATABASE_URL: THE REMOTE DATABASE IS NOT VERIFIED: anybody on the way can read and \
         replace all data; set sslmode=verify-full and sslrootcert",
    )
}

fn has_remote_host(server: &tokio_postgres::Config) -> bool {
    let is_remote_address = |address: &IpAddr| !is_loopback(*address);
    let is_remote_name = |host: &Host| matches!(host, Host::Tcp(name) if !is_local(name));
    match server.get_hostaddrs() {
        [] => server.get_hosts().iter().any(is_remote_name),
        addresses => addresses.iter().any(is_remote_address),
    }
}

fn kafka(kafka: &Settings) -> Option<&'static str> {
    let host = |broker: &String| broker.rsplit_once(':').map(|(host, _)| host.to_owned());
    let is_remote = |broker: &String| host(broker).is_none_or(|host| !is_local(&host));
    if kafka.tls.is_some() || !kafka.brokers.iter().any(is_remote) {
        return None;
    }
    let sends_password =
        (kafka.sasl.as_ref()).is_some_and(|sasl| sasl.mechanism == SaslMechanism::Plain);
    Some(if sends_password {
        "KAFKA_SECURITY_PROTOCOL: THE PASSWORD CROSSES THE NETWORK IN PLAIN TEXT: use SASL_SSL"
    } else {
        "KAFKA_SECURITY_PROTOCOL: EVENTS CROSS THE NETWORK IN PLAIN TEXT, e-mail addresses among \
         them: use SSL or SASL_SSL"
    })
}

/// A name or an address (IPv6 in brackets or not) of this machine.
pub(super) fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => is_loopback(address),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Also of an IPv4 address that is written as an IPv6 one.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
