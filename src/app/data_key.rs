//! Whether `DATA_KEY` is the one of the database, at the start.

use anyhow::bail;
use tracing::warn;

use crate::{
    config::{Config, DATA_KEY_FILE},
    db::Db,
    model::KeyMismatch,
};

/// Refuses to start with a key that opens none of the newest passwords: logins would fail, and
/// new passwords would get a seal that the right key does not open.
pub(super) async fn check(db: &Db, config: &Config) -> anyhow::Result<()> {
    let newest = db.newest_hashes().await?;
    match config.auth.data_keys.check(&newest) {
        Ok(()) => Ok(()),
        Err(some @ KeyMismatch::Some(_)) => {
            warn!("DATA_KEY: {some}");
            Ok(())
        }
        Err(all @ KeyMismatch::All(_)) => {
            let embedded = config.embedded.as_ref();
            match embedded.and_then(|embedded| embedded.take_back(DATA_KEY_FILE)) {
                Some(path) => bail!("DATA_KEY: there was no file {}, and {all}", path.display()),
                None => bail!("DATA_KEY: {all}"),
            }
        }
    }
}
