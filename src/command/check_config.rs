//! `auth-service check-config`: reports what `serve` would do and whether it would work.
//!
//! Tests each part of the configuration and changes nothing. Prints one line for each part,
//! with the variable that an operator would change.

mod database;

use anyhow::bail;
use auth_service::{
    app::SystemClock, auth::SigningKey, config::Config, grpc::Exposure, model::Clock as _,
    outbox::kafka, password, tls::server,
};
use secrecy::SecretSlice;

use super::print;

/// The finding for a secret of the embedded default that does not exist yet.
const GENERATED: &str = "would be generated";

type Finding = Result<String, String>;

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    let mut failed = 0;
    let warnings = config.warnings(SystemClock.now());
    for (name, finding) in findings(config).await {
        let (verdict, what) = match finding {
            Ok(what) => ("ok", what),
            Err(what) => {
                failed += 1;
                ("FAILED", what)
            }
        };
        print(&format!("{verdict:<7} {name}: {what}"))?;
    }
    for warning in warnings {
        print(&format!("WARNING {warning}"))?;
    }
    if failed > 0 {
        bail!("this configuration would not work now: {failed} failed");
    }
    Ok(())
}

async fn findings(config: Config) -> Vec<(&'static str, Finding)> {
    let security = security(config.tls.as_ref());
    let (cost, threads) = (config.passwords.cost, config.passwords.threads);
    let hashes = format!("{cost} on {threads} threads of {} lanes", password::lanes());
    let database = database::findings(&config).await;
    vec![
        ("GRPC_ADDR", Ok(format!("{}, {security}", config.grpc_addr))),
        ("GRPC_REFLECTION", Ok(reflection(config.exposure))),
        ("ALLOW_PLAINTEXT_KEYS", Ok(plaintext_keys(config.exposure))),
        ("ADMIN_ADDR", Ok(config.admin_addr.to_string())),
        ("DATABASE_URL", database.answer),
        ("JWT_SECRET", Ok(keys(&config))),
        ("DATA_KEY", database.data_key),
        ("INTERNAL_TOKENS", Ok(callers(&config))),
        ("BCRYPT_COST", Ok(hashes)),
        ("KAFKA_BROKERS", events(config.kafka.as_ref()).await),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", Ok(traces(&config))),
    ]
}

fn security(tls: Option<&server::Settings>) -> String {
    let Some(tls) = tls else {
        return "plain text".to_owned();
    };
    let certificate = &tls.identity.certificate;
    let (names, until) = (certificate.names.join(", "), certificate.not_after);
    format!("TLS, the certificate of {names} until {until}")
}

fn reflection(exposure: Exposure) -> String {
    let served = if exposure.reflection { "" } else { "not " };
    format!("reflection is {served}served")
}

fn plaintext_keys(exposure: Exposure) -> String {
    let by = if exposure.plaintext_keys {
        "any connection"
    } else {
        "TLS or loopback"
    };
    format!("keys are served over {by}")
}

fn keys(config: &Config) -> String {
    if would_generate(config, "jwt-secret") {
        return GENERATED.to_owned();
    }
    let id = |secret: &SecretSlice<u8>| SigningKey::new(secret.clone()).id().to_owned();
    let secrets = &config.auth.secrets;
    let others = secrets.next.iter().chain(&secrets.previous);
    let others: Vec<_> = others.map(id).collect();
    let signing = id(&secrets.current);
    match others.join(", ").as_str() {
        "" => format!("signs with key {signing}"),
        others => format!("signs with key {signing}, also valid: {others}"),
    }
}

fn would_generate(config: &Config, file: &str) -> bool {
    let mut embedded = config.embedded.iter();
    embedded.any(|embedded| embedded.created(file).is_some())
}

fn callers(config: &Config) -> String {
    let callers = &config.internal_callers;
    let scopes = |name| format!("{name} ({})", callers.scopes_of(name));
    let callers: Vec<_> = callers.names().map(scopes).collect();
    match callers.join(", ").as_str() {
        "" => "no internal service".to_owned(),
        callers => callers.to_owned(),
    }
}

async fn events(config: Option<&kafka::Settings>) -> Finding {
    let Some(config) = config else {
        return Ok("not set: events are kept in the database".to_owned());
    };
    let partitions = kafka::count_partitions(config).await;
    let (partitions, topic) = (
        partitions.map_err(|error| error.to_string())?,
        &config.topic,
    );
    Ok(format!("the topic {topic} has {partitions} partitions"))
}

/// The receiver is not contacted: the service works without it.
fn traces(config: &Config) -> String {
    match &config.log.traces {
        Some(endpoint) => format!("traces go to {endpoint}"),
        None => "not set: no traces are sent".to_owned(),
    }
}
