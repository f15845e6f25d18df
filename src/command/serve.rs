//! `auth-service serve`: runs the service until a signal ends it.

use std::sync::Arc;

use anyhow::Context as _;
use auth_service::{
    app::{App, SystemClock},
    config::{Config, Embedded},
    model::Clock as _,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    if let Some(embedded) = &config.embedded {
        warn_of_embedded_default(embedded);
    }
    for warning in config.warnings(SystemClock.now()) {
        warn!("{warning}");
    }
    let stop = CancellationToken::new();
    // Handle signals before the start, which may take long.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [terminate, interrupt] = signals;
    tokio::spawn(stop_on_signal(terminate?, interrupt?, stop.clone()));
    // In a task of its own, because migrations block.
    let app = tokio::spawn(App::build(config, Arc::new(SystemClock)));
    let app = tokio::select! {
        app = app => app.context("the start panicked")??,
        () = stop.cancelled() => return Ok(()),
    };
    app.run(stop).await
}

/// Stops the service on the first signal, and ends the process on the second.
async fn stop_on_signal(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    info!(signal = name, "finishing what runs");
    stop.cancel();
    let name = next().await;
    warn!(signal = name, "a second signal: exiting at once");
    std::process::exit(1);
}

/// Generated secrets must not go unnoticed.
fn warn_of_embedded_default(embedded: &Embedded) {
    let created: Vec<_> = embedded
        .created
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let generated = if created.is_empty() {
        String::new()
    } else {
        format!("; GENERATED {}", created.join(", "))
    };
    warn!(
        "NO DATABASE_URL: RUNNING ON THE EMBEDDED DEFAULT in {}/auth.db, not for production{generated}",
        embedded.folder.display()
    );
}
