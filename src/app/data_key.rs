//! Whether `DATA_KEY` is the one of the database, at the start of the service and of commands that
//! use it.

use anyhow::bail;
use tracing::warn;

use crate::{
    config::{DATA_KEY_FILE, Embedded},
    db::Db,
    model::{DataKeys, KeyMismatch, Timestamp},
};

/// Refuses to start with a key that opens none of the newest and of the oldest passwords: logins
/// would fail, and new passwords would get a seal that the right key does not open. The oldest ones
/// are compared too, because under a wrong key anybody can make the newest ones by registering.
/// A key that the embedded default has just made is removed.
pub async fn check(
    db: &Db,
    keys: &DataKeys,
    embedded: Option<&Embedded>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let sealed = db.sealed_hashes(now).await?;
    match keys.check(&sealed) {
        Ok(()) => Ok(()),
        Err(partial @ KeyMismatch::Partial(_)) => {
            warn!("DATA_KEY: {partial}");
            Ok(())
        }
        Err(total @ KeyMismatch::Total(_)) => {
            match embedded.and_then(|embedded| embedded.remove_created(DATA_KEY_FILE)) {
                Some(path) => bail!(
                    "DATA_KEY: there was no file {}, and {total}",
                    path.display()
                ),
                None => bail!("DATA_KEY: {total}"),
            }
        }
    }
}
