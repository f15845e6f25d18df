//! The admin port for operators: liveness, readiness and metrics.
//!
//! Its memory is bounded too. At the connection limit the oldest connection is closed for a new
//! one, so a flood of connections does not keep the probes out.

use std::{collections::VecDeque, convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::health::Readiness;
use crate::{db::Db, telemetry::LIMITED};

/// Probes and Prometheus need one each.
const MAX_CONNECTIONS: usize = 32;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Also the time that a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Without a free file descriptor no connection can be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    registry: Registry,
    db: Db,
) -> Infallible {
    let registry = Arc::new(registry);
    let routes = Router::new()
        .route("/livez", get(|| ready("alive\n")))
        .route("/readyz", get(move || ready(answer(*readiness.borrow()))))
        .route("/metrics", get(move || ready(metrics(&registry, &db))));
    let service = TowerToHyperService::new(routes);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    let mut open = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(name: LIMITED, %error, "cannot accept a connection to the admin port; trying again");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        open.retain(|connection: &AbortOnDropHandle<_>| !connection.is_finished());
        if open.len() == MAX_CONNECTIONS {
            open.pop_front();
        }
        open.push_back(AbortOnDropHandle::new(tokio::spawn(connection)));
    }
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
