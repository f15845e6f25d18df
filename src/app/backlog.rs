//! Measures how far the outbox is behind.
//!
//! Every replica measures, even if it does not publish or has no Kafka: an outbox that is never
//! emptied must be seen. The database is asked at an interval and not at each scrape, so
//! scraping costs it nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    db::{self, Db},
    model::Clock,
    outbox::Metrics,
    telemetry::Causes,
};

const INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn run(
    db: Db,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let rounds = async {
        loop {
            // After a failure the metrics keep their values. The health check logs the outage.
            if let Err(error) = tick(&db, &*clock, &metrics).await {
                debug!(error = %Causes(&error), "cannot measure the outbox");
            }
            sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
    Ok(())
}

async fn tick(db: &Db, clock: &dyn Clock, metrics: &Metrics) -> Result<(), db::Error> {
    let backlog = db.backlog().await?;
    let age = backlog.oldest.map(|oldest| clock.now().since(oldest));
    metrics.pending.set(backlog.pending);
    metrics.parked.set(backlog.parked);
    let age = age.unwrap_or_default().as_secs_f64();
    metrics.oldest_age.set(age);
    Ok(())
}
