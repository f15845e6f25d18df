//! `SASL_SSL`, with the right password and a wrong one.

use std::env;

use super::{serve, sign_up};
use crate::harness::{EVENTS, Kafka, PARKED, Process, TestDatabase, both, register, skip};

both! {
    async fn events_are_published_over_sasl_ssl_with_every_mechanism(database: TestDatabase) {
        let Some((brokers, ca_file)) = sasl() else {
            return;
        };
        for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
            let Some(kafka) = Kafka::new().await else {
                return;
            };
            let options = sasl_options(&brokers, &ca_file, mechanism, "auth-test-secret");
            let service = serve(database.clone(), &kafka, &options).await;
            let user_id = sign_up(&service, &format!("{mechanism}@example.com"))
                .await
                .user_id;
            assert_eq!(kafka.wait_for(1).await[0].key, user_id, "{mechanism}");
            database.wait_for(EVENTS, 0).await;
            service.stop().await.0.unwrap();
        }
    }

    async fn events_wait_while_kafka_refuses_the_password(database: TestDatabase) {
        let Some((brokers, ca_file)) = sasl() else {
            return;
        };
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
            let variables = [
                ("KAFKA_BROKERS", brokers.as_str()),
                ("KAFKA_TOPIC", &kafka.topic),
                ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
                ("KAFKA_SASL_MECHANISM", mechanism),
                ("KAFKA_SASL_USERNAME", "auth"),
                ("KAFKA_SASL_PASSWORD", "a-wrong-password"),
                ("KAFKA_SSL_CA_FILE", &ca_file),
                ("LOG", "trace"),
            ];
            let process = Process::serve(&database, &variables);
            let mut client = process.client().await;
            client
                .register(register(&format!("{mechanism}@example.com")))
                .await
                .unwrap();
            process.wait_for("cannot publish events; they wait").await;
            process.wait_for("still cannot publish events").await;
            let log = process.log().concat();
            assert!(!log.contains("a-wrong-password") && !log.contains("@example.com"));
            // A killed process does not release the lease.
            let ended = database.dialect("1", "now()");
            drop(process);
            database
                .execute(&format!("UPDATE outbox_lease SET expires_at = {ended}"))
                .await;
        }
        assert_eq!(database.count(EVENTS).await, 3);
        assert_eq!(database.count(PARKED).await, 0);
        assert_eq!(kafka.records().await, []);

        // The right password is the only change.
        let options = sasl_options(&brokers, &ca_file, "SCRAM-SHA-512", "auth-test-secret");
        let service = serve(database, &kafka, &options).await;
        assert_eq!(kafka.wait_for(3).await.len(), 3);
        service.database.wait_for(EVENTS, 0).await;
    }
}

/// The `SASL_SSL` listener of the shared broker, and the file of its CA.
fn sasl() -> Option<(String, String)> {
    let (Ok(brokers), Ok(ca_file)) = (
        env::var("TEST_KAFKA_SASL_BROKERS"),
        env::var("TEST_KAFKA_CA_FILE"),
    ) else {
        skip("no Kafka with SASL_SSL: TEST_KAFKA_SASL_BROKERS or TEST_KAFKA_CA_FILE is not set");
        return None;
    };
    Some((brokers, ca_file))
}

fn sasl_options<'a>(
    brokers: &'a str,
    ca_file: &'a str,
    mechanism: &'a str,
    password: &'a str,
) -> [&'a str; 12] {
    [
        "--kafka-brokers",
        brokers,
        "--kafka-security-protocol",
        "SASL_SSL",
        "--kafka-sasl-mechanism",
        mechanism,
        "--kafka-sasl-username",
        "auth",
        "--kafka-sasl-password",
        password,
        "--kafka-ssl-ca-file",
        ca_file,
    ]
}
