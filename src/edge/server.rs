//! One port for all gateways: Envoy's `Check` and `grpc.health.v1` over gRPC, and forward-auth by
//! any other request, over HTTP/1.1 or HTTP/2 without TLS.
//!
//! No request body is read but the message of a gRPC call. What peers can make the process keep
//! is bounded: connections, streams, header bytes, unfinished messages, and the time that a
//! connection may be idle. At the connection limit, the connection that has been idle the longest
//! is closed for a new one.

mod connections;

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};
use tracing::warn;

use self::connections::{Activity, Connection, Connections};
use super::{
    Checks, envoy, forward_auth,
    unary::{self, Body, Unfinished},
};
use crate::telemetry::LIMITED;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Gateways pass on what a client sends, and add to it. Envoy accepts 60 KiB of headers.
const MAX_HEADER_BYTES: u32 = 96 * 1024;
/// By HTTP/2: a call of Envoy has the headers of the client in its message.
const MAX_CALL_HEADER_BYTES: u32 = 16 * 1024;
/// Envoy accepts 100 headers and adds its own; hyper's default is 100.
const MAX_HEADERS: usize = 200;
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// For the messages of `Check`.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Without a free file descriptor no connection can be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub connections: usize,
    /// How long a new connection may take to send its first request.
    pub first_request: Duration,
    /// Longer than gateways keep their connections: nginx 60 s, Go 90 s, Caddy 2 min. A gateway
    /// should not send a request on a connection that is being closed.
    pub idle: Duration,
    /// From the end of the service until open connections are cut off.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            first_request: Duration::from_secs(10),
            idle: Duration::from_mins(5),
            drain: Duration::from_secs(5),
        }
    }
}

pub struct Server {
    pub listener: TcpListener,
    pub checks: Checks,
    pub limits: ServerLimits,
}

/// What all connections share.
struct Shared {
    checks: Checks,
    /// The bytes of unfinished messages.
    unfinished: Arc<AtomicUsize>,
    limits: ServerLimits,
    http: auto::Builder<TokioExecutor>,
    stop: CancellationToken,
}

impl Server {
    /// Serves until `stop` is cancelled and the running requests have ended.
    pub async fn serve(self, stop: CancellationToken) {
        let connections = Connections::new(self.limits.connections);
        let shared = Arc::new(Shared {
            checks: self.checks,
            unfinished: Arc::default(),
            limits: self.limits,
            http: http(self.limits.idle),
            stop: stop.clone(),
        });
        let tasks = TaskTracker::new();
        while let Some(stream) = stop.run_until_cancelled(accept(&self.listener)).await {
            tasks.spawn(Arc::clone(&shared).serve(stream, connections.admit()));
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // If this fails, answers are only slower.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                warn!(name: LIMITED, %error, "cannot accept a connection; trying again");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn http(idle: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .max_headers(MAX_HEADERS)
        .pipeline_flush(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_CALL_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream, connection: Connection) {
        let activity = &connection.activity;
        let unfinished = Arc::new(Unfinished::of_connection(&self.unfinished));
        let service = service_fn(|request| {
            let (shared, activity) = (Arc::clone(&self), Arc::clone(activity));
            let unfinished = Arc::clone(&unfinished);
            async move {
                let response = shared.answer(request, &unfinished).await;
                activity.answered();
                Ok::<_, Infallible>(response)
            }
        });
        let served = self.http.serve_connection(TokioIo::new(stream), service);
        let mut served = pin!(served);
        tokio::select! {
            _ = served.as_mut() => return,
            () = activity.must_close() => return,
            () = self.stop.cancelled() => {}
            () = self.idle(activity) => {}
        }
        // GOAWAY, or `Connection: close` on the next answer. An idle connection ends at once.
        served.as_mut().graceful_shutdown();
        let _ = timeout(self.limits.drain, served).await;
    }

    /// Ends when the connection has been idle for too long.
    async fn idle(&self, activity: &Activity) {
        loop {
            let limit = if activity.has_answered() {
                self.limits.idle
            } else {
                self.limits.first_request
            };
            let idle = activity.idle(Instant::now());
            let Some(rest) = limit.checked_sub(idle) else {
                return;
            };
            sleep(rest).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>, unfinished: &Unfinished) -> Response<Body> {
        let (request, body) = request.into_parts();
        let path = request.uri.path();
        let (is_check, is_health) = (path == envoy::CHECK, path == HEALTH);
        if !unary::is_call(&request) || !(is_check || is_health) {
            return forward_auth::answer(&self.checks, &request.headers);
        }
        // The headers take memory, and the message may be late.
        drop(request);
        if is_check {
            let check = |message| Ok(envoy::check(&self.checks, message));
            let response = unary::answer(body, unfinished, check).await;
            if response.status() != StatusCode::OK {
                self.checks.metrics.count_incomplete();
            }
            response
        } else {
            let health = |message| self.health(&message);
            unary::answer(body, unfinished, health).await
        }
    }

    fn health(&self, request: &HealthCheckRequest) -> Result<HealthCheckResponse, Code> {
        if !["", envoy::SERVICE].contains(&request.service.as_str()) {
            return Err(Code::NotFound);
        }
        let is_ready = !self.stop.is_cancelled() && self.checks.knowledge.answers(Instant::now());
        let status = if is_ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        Ok(HealthCheckResponse {
            status: status.into(),
        })
    }
}
