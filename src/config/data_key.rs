//! The keys of the stored data.

use super::{
    reader::Reader,
    tokens::{Key, is_same, key, keys, own_key},
    variable::{secret, variables},
};
use crate::model::DataSecrets;

/// Where the embedded default keeps the key, in its folder.
pub const FILE: &str = "data-key";

variables! {
    "Stored data"

    /// Key that protects passwords, tokens and counters in the database: as JWT_SECRET
    DATA_KEY: Key = secret("SECRET", key).when_unset("generated when DATABASE_URL is not set");
    /// Keys that were DATA_KEY before: what they made is still accepted, comma-separated
    DATA_PREVIOUS_KEYS: Vec<Key> = secret("SECRETS", keys).when_unset("none");
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<DataSecrets> {
    let current = own_key(reader, &DATA_KEY, FILE);
    let previous = reader.optional(&DATA_PREVIOUS_KEYS).unwrap_or_default();
    let current = current?;
    let is_double = |(index, key): &(usize, &Key)| {
        let mut others = previous[..*index].iter().chain([&current]);
        others.any(|other| is_same(key, other))
    };
    if let Some((index, _)) = previous.iter().enumerate().find(is_double) {
        let what = format!("entry {} is a key that is given twice", index + 1);
        reader.problem(DATA_PREVIOUS_KEYS.name(), what);
    }
    Some(DataSecrets { current, previous })
}
