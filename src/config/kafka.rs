//! The variables have the names that Kafka's own clients use. A setting that would have no
//! effect is refused: a password without SASL, or anything but the topic without brokers.

use std::{net::Ipv6Addr, sync::Arc};

use rustls::{RootCertStore, pki_types::ServerName};
use secrecy::SecretString;

use super::{
    reader::Reader,
    value::{authorities, one_of, system_authorities, text},
    variable::{Declaration, secret, value, variables},
};
use crate::outbox::kafka::{Sasl, SaslMechanism, Settings};

variables! {
    "Kafka"

    /// host:port, comma-separated
    KAFKA_BROKERS: Vec<String> = value("BROKERS", brokers)
        .when_unset("none, events wait in the database");
    /// Topic of the events
    KAFKA_TOPIC: String = value("TOPIC", topic).default("realchat.auth.user-events.v1");
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    KAFKA_SECURITY_PROTOCOL: Protocol = value("PROTOCOL", |text| one_of(text, &PROTOCOLS))
        .default("PLAINTEXT");
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; required by SASL
    KAFKA_SASL_MECHANISM: SaslMechanism = value("MECHANISM", |text| one_of(text, &MECHANISMS));
    /// User name; required by SASL
    KAFKA_SASL_USERNAME: String = value("NAME", text);
    /// Password; required by SASL
    KAFKA_SASL_PASSWORD: SecretString = secret("SECRET", |text| Ok(text.into()));
    /// CA certificates of the brokers, PEM
    KAFKA_SSL_CA_FILE: RootCertStore = value("PATH", authorities).when_unset("the system's");
}

/// Kafka's limit: a topic is a folder name with a suffix.
const MAX_TOPIC: usize = 249;

#[derive(Clone, Copy)]
pub(super) struct Protocol {
    has_tls: bool,
    has_sasl: bool,
}

impl Protocol {
    const fn new(has_tls: bool, has_sasl: bool) -> Self {
        Self { has_tls, has_sasl }
    }
}

const PROTOCOLS: [(&str, Protocol); 4] = [
    ("PLAINTEXT", Protocol::new(false, false)),
    ("SSL", Protocol::new(true, false)),
    ("SASL_PLAINTEXT", Protocol::new(false, true)),
    ("SASL_SSL", Protocol::new(true, true)),
];

const MECHANISMS: [(&str, SaslMechanism); 3] = [
    ("PLAIN", SaslMechanism::Plain),
    ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
    ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
];

const SASL: [Declaration; 3] = [
    KAFKA_SASL_MECHANISM.declaration,
    KAFKA_SASL_USERNAME.declaration,
    KAFKA_SASL_PASSWORD.declaration,
];

/// `None` without `KAFKA_BROKERS`, or if something is wrong.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    let topic = reader.value(&KAFKA_TOPIC);
    if !reader.is_set(&KAFKA_BROKERS.declaration) {
        let allowed = [KAFKA_BROKERS.name(), KAFKA_TOPIC.name()];
        for variable in VARIABLES {
            if !allowed.contains(&variable.name) {
                reader.refuse(std::slice::from_ref(variable), "needs KAFKA_BROKERS");
            }
        }
        return None;
    }
    let brokers = reader.optional(&KAFKA_BROKERS);
    let protocol = reader.optional(&KAFKA_SECURITY_PROTOCOL)?;
    let is_usable = |broker: &String| !protocol.has_tls || has_tls_name(broker);
    reader.require(
        brokers.iter().flatten().all(is_usable),
        &KAFKA_BROKERS,
        &KAFKA_SECURITY_PROTOCOL,
        "must name each broker by a host name or an IPv4 address, since the Kafka client cannot \
         verify an IPv6 address by TLS",
    );
    Some(Settings {
        topic,
        tls: read_tls(protocol, reader),
        sasl: read_sasl(protocol, reader),
        brokers: brokers?,
    })
}

fn read_tls(protocol: Protocol, reader: &mut Reader<'_>) -> Option<Arc<RootCertStore>> {
    let file = KAFKA_SSL_CA_FILE.declaration;
    if !protocol.has_tls {
        reader.refuse(&[file], "needs KAFKA_SECURITY_PROTOCOL SSL or SASL_SSL");
        return None;
    }
    let authorities = if reader.is_set(&file) {
        reader.optional(&KAFKA_SSL_CA_FILE)
    } else {
        let found = system_authorities();
        found.map_err(|what| reader.problem(file.name, what)).ok()
    };
    authorities.map(Arc::new)
}

fn read_sasl(protocol: Protocol, reader: &mut Reader<'_>) -> Option<Sasl> {
    if !protocol.has_sasl {
        reader.refuse(
            &SASL,
            "needs KAFKA_SECURITY_PROTOCOL SASL_PLAINTEXT or SASL_SSL",
        );
        return None;
    }
    for variable in SASL {
        if !reader.is_set(&variable) {
            reader.problem(variable.name, "is required by this KAFKA_SECURITY_PROTOCOL");
        }
    }
    let mechanism = reader.optional(&KAFKA_SASL_MECHANISM);
    let username = reader.optional(&KAFKA_SASL_USERNAME);
    let password = reader.optional(&KAFKA_SASL_PASSWORD);
    Some(Sasl {
        mechanism: mechanism?,
        username: username?,
        password: password?,
    })
}

fn topic(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.len() > MAX_TOPIC || !text.chars().all(legal) || text == "." || text == ".." {
        let what = format!("must be 1 to {MAX_TOPIC} letters, digits, '.', '_' and '-'");
        return Err(what);
    }
    Ok(text.to_owned())
}

fn brokers(text: &str) -> Result<Vec<String>, String> {
    let broker = |text: &str| is_broker(text).then(|| text.to_owned());
    let brokers: Option<_> = text.split(',').map(str::trim).map(broker).collect();
    brokers.ok_or_else(|| "must be host:port, comma-separated".into())
}

/// Whether rskafka can make the name of a TLS server from it: it takes the text before the first
/// colon, which an IPv6 address has inside.
fn has_tls_name(broker: &str) -> bool {
    let host = broker.split(':').next().unwrap_or_default();
    ServerName::try_from(host).is_ok()
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_ipv6 = || address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_name =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@".contains(c));
    is_name
        && (!host.contains([':', '[', ']']) || is_ipv6())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}
