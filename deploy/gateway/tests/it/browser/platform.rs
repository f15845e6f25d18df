//! The service, the gateway and the mailer, with a topic of their own.

use std::{
    env,
    process::{Child, Command, Stdio, id},
};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    eventually,
    gateway::Gateway,
    http,
    service::{MAILER_TOKEN, Service},
};

pub struct Platform {
    _service: Service,
    pub gateway: Gateway,
    mailer: Child,
    smtp_api: String,
}

impl Platform {
    /// `None`, which it says, if the servers or the mailer are missing.
    pub async fn start() -> Option<Self> {
        let kafka = needed("TEST_KAFKA_BROKERS")?;
        let (smtp_url, smtp_api) = (needed("TEST_SMTP_URL")?, needed("TEST_SMTP_API")?);
        let (mailer, kafka_home) = (needed("MAILER_BIN")?, needed("TEST_KAFKA_HOME")?);
        let topic = format!("gateway-{}", id());
        let (brokers, name) = (kafka.clone(), topic.clone());
        let created = spawn_blocking(move || create_topic(&kafka_home, &brokers, &name));
        created.await.unwrap();
        let variables = [
            ("EMAIL_VERIFICATION", "required"),
            ("KAFKA_BROKERS", &kafka),
            ("KAFKA_TOPIC", &topic),
        ];
        let service = Service::start(&variables).await;
        let gateway = Gateway::start(&service).await;
        let mailer = Command::new(mailer)
            .env_clear()
            .env("KAFKA_BROKERS", kafka)
            .env("KAFKA_GROUP", &topic)
            .env("KAFKA_TOPIC", topic)
            .env("AUTH_URL", service.url())
            .env("AUTH_TOKEN", MAILER_TOKEN)
            .env("SMTP_URL", smtp_url)
            .env("MAIL_FROM", "RealChat <no-reply@realchat.example>")
            .env("LINK_BASE_URL", format!("http://{}", gateway.host))
            .stdin(Stdio::null())
            .spawn();
        Some(Self {
            _service: service,
            gateway,
            mailer: mailer.expect("the mailer starts"),
            smtp_api: smtp_api.strip_prefix("http://").unwrap().to_owned(),
        })
    }

    pub fn page(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.host)
    }

    /// Waits for a mail with a link to the page, and returns the link. They count from 0.
    pub async fn link(&self, email: &str, path: &str, number: usize) -> String {
        let start = self.page(&format!("{path}?token="));
        let head = format!("GET /api/user/{email}/messages HTTP/1.0");
        let token = eventually(path, async || {
            let (_, mails) = http::send(&self.smtp_api, &head, "").await;
            // An address without mails is unknown to the server: then it is an object.
            let mails: Value = serde_json::from_str(&mails).ok()?;
            let mails = mails.as_array()?.iter();
            let texts = mails
                .filter_map(|mail| mail["mimeMessage"].as_str())
                .map(decoded);
            let mut tokens = texts.filter_map(|text| {
                let (_, rest) = text.split_once(&start)?;
                rest.split_whitespace().next().map(str::to_owned)
            });
            tokens.nth(number)
        });
        format!("{start}{}", token.await)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.mailer.kill();
        let _ = self.mailer.wait();
    }
}

fn needed(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    if value.is_none() {
        assert!(env::var_os("CI").is_none(), "{name} is not set");
        eprintln!("SKIPPED: {name} is not set; see `tests/run smtp with`");
    }
    value
}

/// Kafka's own tool, because nothing else here speaks its protocol.
fn create_topic(kafka_home: &str, brokers: &str, topic: &str) {
    let created = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{kafka_home}/*")])
        .args(["org.apache.kafka.tools.TopicCommand", "--create"])
        .args(["--bootstrap-server", brokers, "--topic", topic])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(created.expect("java runs").success());
}

/// The text of a mail in the encoding quoted-printable (RFC 2045, section 6.7), as far as links
/// need it.
fn decoded(mail: &str) -> String {
    mail.replace("=\r\n", "")
        .replace("=\n", "")
        .replace("=3D", "=")
}
