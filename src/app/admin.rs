//! The operators' port: is the process alive, does it serve?

use std::future::ready;

use axum::{Router, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Answers `/livez` and `/readyz` until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    is_ready: watch::Receiver<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| ready("alive\n")))
        .route("/readyz", get(move || ready(readiness(*is_ready.borrow()))));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}

fn readiness(is_ready: bool) -> (StatusCode, &'static str) {
    if is_ready {
        (StatusCode::OK, "ready\n")
    } else {
        let reason = "not ready: the database does not answer, or the service is stopping\n";
        (StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}
