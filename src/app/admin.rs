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
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::telemetry::LIMITED;

/// Probes and Prometheus need one each.
const MAX_CONNECTIONS: usize = 32;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Also the time that a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Without a free file descriptor no connection can be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves `/readyz` by `readiness`, whose error says what is missing. `measure` is called before
/// each scrape.
pub(super) async fn serve(
    listener: TcpListener,
    readiness: impl Fn() -> Result<(), &'static str> + Clone + Send + Sync + 'static,
    registry: Registry,
    measure: impl Fn() + Clone + Send + Sync + 'static,
) -> Infallible {
    let registry = Arc::new(registry);
    let metrics = move || {
        measure();
        ready(metrics(&registry))
    };
    let routes = Router::new()
        .route("/livez", get(|| ready("alive\n")))
        .route("/readyz", get(move || ready(answer(readiness()))))
        .route("/metrics", get(metrics));
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

fn answer(readiness: Result<(), &'static str>) -> (StatusCode, String) {
    match readiness {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(missing) => {
            let text = format!("not ready: {missing}\n");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
