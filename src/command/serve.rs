//! `auth-service serve`: runs the service until a signal ends it.

use std::sync::Arc;

use anyhow::Context as _;
use auth_service::{
    app::{App, SystemClock},
    config::{Config, Embedded},
    model::Clock as _,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    if let Some(embedded) = &config.embedded {
        warn_of_embedded_default(embedded);
    }
    for warning in config.warnings(SystemClock.now()) {
        warn!("{warning}");
    }
    // Runs in its own task, because migrations block the thread.
    let app = tokio::spawn(App::build(config, Arc::new(SystemClock)));
    let app = tokio::select! {
        app = app => app.context("the start panicked")??,
        () = stop.cancelled() => return Ok(()),
    };
    app.run(stop).await
}

/// Warns that the service runs with generated secrets.
fn warn_of_embedded_default(embedded: &Embedded) {
    let files = embedded
        .created
        .iter()
        .map(|path| path.display().to_string());
    let generated = match files.collect::<Vec<_>>().join(", ").as_str() {
        "" => String::new(),
        files => format!("; GENERATED {files}"),
    };
    let folder = embedded.folder.display();
    warn!(
        "NO DATABASE_URL: RUNNING ON THE EMBEDDED DEFAULT in {folder}/auth.db, not for production{generated}"
    );
}
