//! Kafka's settings and how they depend on each other.

use super::*;
use crate::outbox::kafka::SaslMechanism;

#[test]
fn kafka_with_sasl_and_tls() {
    let folder = TempDir::new().unwrap();
    let ca = file(&folder, "ca.pem", CA);
    let password = file(&folder, "password", "secret\n");
    let config = load(&format!(
        "--kafka-brokers a:9092,127.0.0.1:9093 --kafka-topic t --kafka-security-protocol SASL_SSL --kafka-sasl-mechanism SCRAM-SHA-512 --kafka-sasl-username me --kafka-sasl-password-file {password} --kafka-ssl-ca-file {ca}"
    ));
    let kafka = config.kafka.unwrap();
    assert_eq!(
        (kafka.topic.as_str(), &kafka.brokers[..]),
        ("t", &["a:9092".to_owned(), "127.0.0.1:9093".to_owned()][..])
    );
    assert_eq!(kafka.tls.unwrap().len(), 1);
    let sasl = kafka.sasl.unwrap();
    assert_eq!(
        (sasl.mechanism, sasl.username.as_str()),
        (SaslMechanism::ScramSha512, "me")
    );
    assert_eq!(sasl.password.expose_secret(), "secret");
}

#[test]
fn kafka_in_plain_text_by_default_on_the_topic_of_the_contract() {
    let kafka = load("--kafka-brokers a:9092").kafka.unwrap();
    assert_eq!(kafka.topic, "realchat.auth.user-events.v1");
    assert!(kafka.tls.is_none() && kafka.sasl.is_none());
    assert!(load("--kafka-topic t").kafka.is_none());
}

#[test]
fn sasl_needs_a_mechanism_a_user_and_a_password() {
    let found = problems("--kafka-brokers a:1 --kafka-security-protocol SASL_PLAINTEXT");
    let expected = ["MECHANISM", "USERNAME", "PASSWORD"]
        .map(|name| format!("KAFKA_SASL_{name}: is required by this KAFKA_SECURITY_PROTOCOL"));
    assert_eq!(found, expected);
}

#[test]
fn a_broker_at_an_ipv6_address_is_accepted_in_plain_text_only() {
    let brokers = "--kafka-brokers a:9092,[::1]:9093";
    let kafka = load(brokers).kafka.unwrap();
    assert_eq!(kafka.brokers[1], "[::1]:9093");
    for protocol in ["SSL", "SASL_SSL"] {
        let found = problems(&format!("{brokers} --kafka-security-protocol {protocol}"));
        let problem = "KAFKA_BROKERS: must name each broker by a host name or an IPv4 address";
        assert!(found[0].starts_with(problem), "{found:?}");
    }
}
