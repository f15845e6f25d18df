//! Measures how far the outbox is behind.
//!
//! Every replica does, whether or not it publishes or Kafka is configured: an outbox that
//! nobody empties is the very thing to be told of. The database is asked now and then and not
//! at each scrape, so scraping costs it nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{db::Db, model::Clock, outbox::Metrics, telemetry::Causes};

const INTERVAL: Duration = Duration::from_secs(5);

/// Measures until `stop`.
pub(super) async fn run(
    db: Db,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let rounds = async {
        loop {
            measure(&db, &*clock, &metrics).await;
            sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
    Ok(())
}

async fn measure(db: &Db, clock: &dyn Clock, metrics: &Metrics) {
    match db.backlog().await {
        Ok(backlog) => {
            let age = backlog.oldest.map(|oldest| clock.now().since(oldest));
            metrics.pending.set(backlog.pending);
            metrics.parked.set(backlog.parked);
            metrics
                .oldest_age
                .set(age.unwrap_or_default().as_secs_f64());
        }
        // The health check says so aloud. The last numbers stay.
        Err(error) => debug!(error = %Causes(&error), "cannot measure the outbox"),
    }
}
