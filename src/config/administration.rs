use std::{path::Path, sync::Arc, time::Duration};

use super::{
    Args, Problem,
    data_key::{self, DATA_KEY},
    database::{self, DATABASE_URL},
    reader::Reader,
    tokens::ACCESS_TOKEN_TTL,
};
use crate::{db, model::DataKeys};

/// The configuration of `users`.
pub struct Administration {
    pub database: db::Settings,
    pub data_keys: Arc<DataKeys>,
    pub access_token_ttl: Duration,
}

/// Reads no other variable, and creates nothing: without a database there are no users.
pub fn administration(args: &Args, base: &Path) -> Result<Administration, Vec<Problem>> {
    let mut reader = Reader::new(args, base);
    let database = database::read_existing(&mut reader);
    let data_secrets = data_key::read(&mut reader);
    let access_token_ttl = reader.value(&ACCESS_TOKEN_TTL);
    if reader.lacks_secrets() && !reader.is_reported(&DATABASE_URL.declaration) {
        let what = "is not set, and there is no data/data-key here";
        reader.problem(DATA_KEY.name(), what);
    }
    let settings = database.zip(data_secrets);
    let settings = settings.map(|(database, data_secrets)| Administration {
        database,
        data_keys: Arc::new(DataKeys::new(&data_secrets)),
        access_token_ttl,
    });
    reader.finish(settings).map(|(settings, _)| settings)
}
