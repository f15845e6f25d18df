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

pub(super) async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    registry: Registry,
    db: Db,
) -> io::Result<()> {
    let registry = Arc::new(registry);
    let routes = Router::new()
        .route("/livez", get(|| ready("alive\n")))
        .route("/readyz", get(move || ready(answer(*readiness.borrow()))))
        .route("/metrics", get(move || ready(metrics(&registry, &db))));
    axum::serve(listener, routes).await
}

fn answer(readiness: Readiness) -> (StatusCode, &'static str) {
    let reason = match readiness {
        Readiness::Ready => return (StatusCode::OK, "ready\n"),
        Readiness::NoDatabase => "not ready: the database does not answer\n",
        Readiness::Stopping => "not ready: the service is stopping\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn metrics(registry: &Registry, db: &Db) -> Response {
    db.count_connections();
    let mut text = String::new();
    match prometheus_text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
