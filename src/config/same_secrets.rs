//! One value for two purposes: a caller who knows the one secret would have the other.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::{
    Config,
    data_key::{DATA_KEY, DATA_PREVIOUS_KEYS},
    database::DATABASE_URL,
    internal_callers::INTERNAL_TOKENS,
    kafka::KAFKA_SASL_PASSWORD,
    reader::Reader,
    tokens::{Key, is_same},
};
use crate::db::Url;

type Hash = [u8; 32];

/// Reports a data key that is also a signing key; an internal token or a password of another
/// server that is also one of both; and such a password that is also an internal token. Keys for
/// one purpose are compared where they are read.
pub(super) fn refuse(config: &Config, reader: &mut Reader<'_>) {
    refuse_data_keys(config, reader);
    let data = [&config.data_secrets.current].into_iter();
    let data = data.chain(&config.data_secrets.previous);
    let keys: Vec<Hash> = signing_keys(config).chain(data).flat_map(forms).collect();
    let tokens: Vec<Hash> = config.internal_callers.token_hashes().collect();
    if let Some(index) = tokens.iter().position(|token| keys.contains(token)) {
        let what = format!("entry {} is also a signing key or data key", index + 1);
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
                "has a password that is also a signing key, data key or internal token",
            );
        }
    }
}

fn refuse_data_keys(config: &Config, reader: &mut Reader<'_>) {
    let is_signing = |key: &Key| signing_keys(config).any(|other| is_same(key, other));
    let data = &config.data_secrets;
    if is_signing(&data.current) {
        reader.problem(DATA_KEY.name(), "is also a signing key");
    }
    if let Some(index) = data.previous.iter().position(is_signing) {
        let what = format!("entry {} is also a signing key", index + 1);
        reader.problem(DATA_PREVIOUS_KEYS.name(), what);
    }
}

fn signing_keys(config: &Config) -> impl Iterator<Item = &Key> {
    let secrets = &config.auth.secrets;
    let keys = [&secrets.current].into_iter();
    keys.chain(&secrets.next).chain(&secrets.previous)
}

/// The hashes of a key as bytes and in its text forms.
fn forms(key: &Key) -> [Hash; 3] {
    let bytes = key.expose_secret();
    let encoded = BASE64_STANDARD.encode(bytes);
    let prefixed = format!("base64:{encoded}");
    [hash(bytes), hash(&encoded), hash(&prefixed)]
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
