//! The admin port for operators: liveness, readiness and metrics.

use std::{future::ready, io, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use tokio::{net::TcpListener, sync::watch};

use super::health::Readiness;
use crate::db::Db;

/// Serves `/livez`, `/readyz` and `/metrics`, without an end.
pub(super) async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    metrics: Metrics,
) -> io::Result<()> {
    let metrics = Arc::new(metrics);
    let routes = Router::new()
        .route("/livez", get(|| ready("alive\n")))
        .route("/readyz", get(move || ready(answer(*readiness.borrow()))))
        .route("/metrics", get(move || ready(metrics.show())));
    axum::serve(listener, routes).await
}

fn answer(readiness: Readiness) -> (StatusCode, &'static str) {
    match readiness {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::NoDatabase => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the database does not answer\n",
        ),
        Readiness::Stopping => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the service is stopping\n",
        ),
    }
}

pub(super) struct Metrics {
    registry: Registry,
    db: Db,
}

impl Metrics {
    pub(super) const fn new(registry: Registry, db: Db) -> Self {
        Self { registry, db }
    }

    fn show(&self) -> Response {
        self.db.count_connections();
        let mut text = String::new();
        match prometheus_text::encode(&mut text, &self.registry) {
            Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
