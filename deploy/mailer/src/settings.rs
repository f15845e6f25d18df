//! The settings, from environment variables. The README has their table.

use std::{env, fs};

use anyhow::{Context as _, bail, ensure};
use lettre::message::Mailbox;
use rdkafka::ClientConfig;

pub struct Settings {
    pub kafka: Kafka,
    pub auth: Auth,
    pub smtp: Smtp,
    pub words: Words,
}

pub struct Kafka {
    pub client: ClientConfig,
    pub topic: String,
}

pub struct Auth {
    pub url: String,
    pub token: String,
    /// PEM. It is there if the URL is `https://`.
    pub authority: Option<Vec<u8>>,
}

pub struct Smtp {
    /// `smtp://` is plain text, `smtp://..?tls=required` STARTTLS, `smtps://` TLS.
    pub url: String,
    pub from: Mailbox,
}

/// The parts of a mail's text that are not in its templates.
pub struct Words {
    pub product: String,
    /// Without a slash at its end.
    pub link_base: String,
}

impl Settings {
    pub fn from_environment() -> anyhow::Result<Self> {
        Ok(Self {
            kafka: kafka()?,
            auth: auth()?,
            smtp: smtp()?,
            words: words()?,
        })
    }
}

fn kafka() -> anyhow::Result<Kafka> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", required("KAFKA_BROKERS")?);
    client.set("group.id", or("KAFKA_GROUP", "realchat-mailer"));
    // librdkafka's names of Kafka's usual settings.
    let options = [
        ("security.protocol", variable("KAFKA_SECURITY_PROTOCOL")),
        ("sasl.mechanism", variable("KAFKA_SASL_MECHANISM")),
        ("sasl.username", variable("KAFKA_SASL_USERNAME")),
        ("sasl.password", secret("KAFKA_SASL_PASSWORD")?),
        ("ssl.ca.location", variable("KAFKA_SSL_CA_FILE")),
    ];
    for (name, value) in options {
        value.map(|value| client.set(name, value));
    }
    let topic = or("KAFKA_TOPIC", "realchat.auth.user-events.v1");
    Ok(Kafka { client, topic })
}

fn auth() -> anyhow::Result<Auth> {
    let url = or("AUTH_URL", "http://127.0.0.1:50051");
    let token = secret("AUTH_TOKEN")?.context("AUTH_TOKEN or AUTH_TOKEN_FILE is missing")?;
    let authority = variable("AUTH_CA_FILE").map(fs::read).transpose();
    let authority = authority.context("AUTH_CA_FILE")?;
    ensure!(
        url.starts_with("https://") == authority.is_some(),
        "AUTH_CA_FILE and an AUTH_URL with https:// need each other"
    );
    Ok(Auth {
        url,
        token,
        authority,
    })
}

fn smtp() -> anyhow::Result<Smtp> {
    let url = secret("SMTP_URL")?.context("SMTP_URL or SMTP_URL_FILE is missing")?;
    let from = required("MAIL_FROM")?.parse().context("MAIL_FROM")?;
    Ok(Smtp { url, from })
}

fn words() -> anyhow::Result<Words> {
    let link_base = required("LINK_BASE_URL")?;
    let is_url = ["https://", "http://"].map(|scheme| link_base.starts_with(scheme));
    ensure!(is_url.contains(&true), "LINK_BASE_URL is no http URL");
    ensure!(
        !link_base.contains(['?', '#']),
        "LINK_BASE_URL has a query or a fragment"
    );
    Ok(Words {
        product: or("PRODUCT_NAME", "RealChat"),
        link_base: link_base.trim_end_matches('/').to_owned(),
    })
}

/// An empty variable counts as unset.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn or(name: &str, default: &str) -> String {
    variable(name).unwrap_or_else(|| default.to_owned())
}

fn required(name: &str) -> anyhow::Result<String> {
    variable(name).with_context(|| format!("{name} is missing"))
}

/// The variable, or the content of the file that `NAME_FILE` names.
fn secret(name: &str) -> anyhow::Result<Option<String>> {
    let file = format!("{name}_FILE");
    match (variable(name), variable(&file)) {
        (Some(_), Some(_)) => bail!("{name} and {file} are both set"),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).context(file)?;
            Ok(Some(text.trim_end().to_owned()))
        }
        (value, None) => Ok(value),
    }
}
