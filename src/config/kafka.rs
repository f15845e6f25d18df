//! Where events go, under the names that Kafka's own clients use.
//!
//! A setting that would have no effect (a password without SASL, anything without brokers)
//! is refused: whoever set it believes in something that is not so.

use std::sync::Arc;

use rustls::RootCertStore;

use super::{
    args::Args,
    problem::Problems,
    secret::Secret,
    value::{authorities, one_of, system_authorities, text},
};
use crate::outbox::kafka::{Sasl, SaslMechanism, Settings};

const DEFAULT_TOPIC: &str = "realchat.auth.user-events.v1";
/// Kafka's limit: a topic is a folder name with a suffix.
const MAX_TOPIC: usize = 249;

/// Whether a security protocol encrypts, and whether it logs in.
#[derive(Clone, Copy)]
struct Protocol {
    tls: bool,
    sasl: bool,
}

const PROTOCOLS: [(&str, Protocol); 4] = [
    (
        "PLAINTEXT",
        Protocol {
            tls: false,
            sasl: false,
        },
    ),
    (
        "SSL",
        Protocol {
            tls: true,
            sasl: false,
        },
    ),
    (
        "SASL_PLAINTEXT",
        Protocol {
            tls: false,
            sasl: true,
        },
    ),
    (
        "SASL_SSL",
        Protocol {
            tls: true,
            sasl: true,
        },
    ),
];

const MECHANISMS: [(&str, SaslMechanism); 3] = [
    ("PLAIN", SaslMechanism::Plain),
    ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
    ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
];

/// `None` without `KAFKA_BROKERS`, or if something is wrong.
pub(super) fn read(args: &Args, problems: &mut Problems) -> Option<Settings> {
    let topic = problems.parse("KAFKA_TOPIC", args.kafka_topic.as_deref(), topic);
    if args.kafka_brokers.is_none() {
        refuse(&security(args), "needs KAFKA_BROKERS", problems);
        return None;
    }
    let brokers = problems.parse("KAFKA_BROKERS", args.kafka_brokers.as_deref(), brokers);
    let protocol = args.kafka_security_protocol.as_deref();
    let protocol = protocol.or(Some("PLAINTEXT"));
    let protocol = problems.parse("KAFKA_SECURITY_PROTOCOL", protocol, one_of(&PROTOCOLS))?;
    let tls = read_tls(args, protocol, problems);
    let sasl = read_sasl(args, protocol, problems);
    let topic = topic.unwrap_or_else(|| DEFAULT_TOPIC.into());
    Some(Settings {
        brokers: brokers?,
        topic,
        tls,
        sasl,
    })
}

type Variable<'a> = (&'static str, &'a Option<String>);

fn sasl(args: &Args) -> [Variable<'_>; 4] {
    [
        ("KAFKA_SASL_MECHANISM", &args.kafka_sasl_mechanism),
        ("KAFKA_SASL_USERNAME", &args.kafka_sasl_username),
        ("KAFKA_SASL_PASSWORD", &args.kafka_sasl_password),
        ("KAFKA_SASL_PASSWORD_FILE", &args.kafka_sasl_password_file),
    ]
}

fn security(args: &Args) -> Vec<Variable<'_>> {
    let mut variables = vec![("KAFKA_SECURITY_PROTOCOL", &args.kafka_security_protocol)];
    variables.extend(sasl(args));
    variables.push(("KAFKA_SSL_CA_FILE", &args.kafka_ssl_ca_file));
    variables
}

fn refuse(variables: &[Variable<'_>], what: &str, problems: &mut Problems) {
    for (name, _) in variables.iter().filter(|(_, value)| value.is_some()) {
        problems.add(*name, what);
    }
}

fn read_tls(
    args: &Args,
    protocol: Protocol,
    problems: &mut Problems,
) -> Option<Arc<RootCertStore>> {
    if !protocol.tls {
        let variable = ("KAFKA_SSL_CA_FILE", &args.kafka_ssl_ca_file);
        refuse(
            &[variable],
            "needs KAFKA_SECURITY_PROTOCOL SSL or SASL_SSL",
            problems,
        );
        return None;
    }
    let name = "KAFKA_SSL_CA_FILE";
    match args.kafka_ssl_ca_file.as_deref() {
        Some(path) => problems.parse(name, Some(path), authorities),
        None => system_authorities()
            .map_err(|what| problems.add(name, what))
            .ok(),
    }
    .map(Arc::new)
}

fn read_sasl(args: &Args, protocol: Protocol, problems: &mut Problems) -> Option<Sasl> {
    let variables = sasl(args);
    if !protocol.sasl {
        refuse(
            &variables,
            "needs KAFKA_SECURITY_PROTOCOL SASL_PLAINTEXT or SASL_SSL",
            problems,
        );
        return None;
    }
    let [mechanism, username, password, file] = variables.map(|(_, value)| value.as_deref());
    let password_is_set = password.or(file).is_some();
    for ((name, _), is_set) in
        variables
            .iter()
            .zip([mechanism.is_some(), username.is_some(), password_is_set])
    {
        if !is_set {
            problems.add(*name, "is required by this KAFKA_SECURITY_PROTOCOL");
        }
    }
    let mechanism = problems.parse("KAFKA_SASL_MECHANISM", mechanism, one_of(&MECHANISMS));
    let username = problems.parse("KAFKA_SASL_USERNAME", username, text);
    let password = Secret::read("KAFKA_SASL_PASSWORD", password, file, problems);
    Some(Sasl {
        mechanism: mechanism?,
        username: username?,
        password: password?.text,
    })
}

fn topic(value: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if value.len() > MAX_TOPIC || !value.chars().all(legal) || value == "." || value == ".." {
        return Err(format!(
            "must be 1 to {MAX_TOPIC} letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(value.to_owned())
}

fn brokers(value: &str) -> Result<Vec<String>, String> {
    let brokers: Vec<_> = value.split(',').map(str::trim).map(str::to_owned).collect();
    if brokers.iter().all(|broker| is_broker(broker)) {
        Ok(brokers)
    } else {
        Err("must be host:port, comma-separated".into())
    }
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_ipv6 = || host.starts_with('[') && host.ends_with(']');
    let is_name =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@".contains(c));
    is_name && (!host.contains(':') || is_ipv6()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}
