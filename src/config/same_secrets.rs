//! One value for two purposes: a caller who knows the one secret would have the other.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::{
    Config, database::DATABASE_URL, internal_callers::INTERNAL_TOKENS, kafka::KAFKA_SASL_PASSWORD,
    reader::Reader,
};
use crate::db::Url;

type Hash = [u8; 32];

/// Reports an internal token or a password of another server that is also a signing key, and
/// such a password that is also an internal token. Signing keys are compared where they are
/// read.
pub(super) fn refuse(config: &Config, reader: &mut Reader<'_>) {
    let keys = signing_keys(config);
    let tokens: Vec<Hash> = config.internal_callers.token_hashes().collect();
    if let Some(index) = tokens.iter().position(|token| keys.contains(token)) {
        let what = format!("entry {} is also a signing key", index + 1);
        reader.problem(INTERNAL_TOKENS.name(), what);
    }
    let passwords = [
        (KAFKA_SASL_PASSWORD.name(), kafka_password(config)),
        (DATABASE_URL.name(), database_password(config)),
    ];
    for (name, password) in passwords {
        let is_used = |hash: &Hash| keys.contains(hash) || tokens.contains(hash);
        if password.as_ref().is_some_and(is_used) {
            reader.problem(
                name,
                "has a password that is also a signing key or internal token",
            );
        }
    }
}

/// The hashes of each key as bytes and in its text forms.
fn signing_keys(config: &Config) -> Vec<Hash> {
    let secrets = &config.auth.secrets;
    let keys = [&secrets.current].into_iter();
    let keys = keys.chain(&secrets.next).chain(&secrets.previous);
    let forms = keys.flat_map(|key| {
        let bytes = key.expose_secret();
        let encoded = BASE64_STANDARD.encode(bytes);
        let prefixed = format!("base64:{encoded}");
        [hash(bytes), hash(&encoded), hash(&prefixed)]
    });
    forms.collect()
}

pub(super) fn kafka_password(config: &Config) -> Option<Hash> {
    let sasl = config.kafka.as_ref()?.sasl.as_ref()?;
    Some(hash(sasl.password.expose_secret()))
}

pub(super) fn database_password(config: &Config) -> Option<Hash> {
    let Url::Postgres(postgres) = &config.database.url else {
        return None;
    };
    let passwords = postgres.servers.iter();
    passwords
        .filter_map(tokio_postgres::Config::get_password)
        .map(hash)
        .next()
}

fn hash(text: impl AsRef<[u8]>) -> Hash {
    Sha256::digest(text).into()
}
