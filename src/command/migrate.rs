//! `auth-service migrate`: updates the schema before a new version is rolled out.

use auth_service::db::Db;
use tracing::info;

pub(super) async fn run(db: Db) -> anyhow::Result<()> {
    db.migrate().await?;
    info!("the database is up to date");
    Ok(())
}
