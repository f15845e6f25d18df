//! `auth-service edge`: runs the sidecar of a gateway until a signal ends it.

use std::sync::Arc;

use auth_service::{
    app::{Sidecar, SystemClock},
    config::Edge,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) async fn run(config: Edge, stop: CancellationToken) -> anyhow::Result<()> {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let sidecar = Sidecar::build(config, Arc::new(SystemClock))?;
    sidecar.run(stop).await
}
