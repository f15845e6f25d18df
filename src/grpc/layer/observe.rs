//! Counts and traces every call.
//!
//! This is the outermost layer, so it also counts the calls that the other layers refuse and
//! the calls that the caller cancels (`CANCELLED`). A stream is counted when it begins.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::{methods::Methods, trace::Spans};
use crate::grpc::Metrics;

#[derive(Clone)]
pub struct ObserveLayer(Arc<Observer>);

struct Observer {
    methods: Methods,
    metrics: Metrics,
}

impl ObserveLayer {
    pub fn new(methods: Methods, metrics: Metrics) -> Self {
        Self(Arc::new(Observer { methods, metrics }))
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        let observer = Arc::clone(&self.0);
        Observe { inner, observer }
    }
}

#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    observer: Arc<Observer>,
}

impl<S> Service<http::Request<Body>> for Observe<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let method = Arc::clone(self.observer.methods.name(request.uri().path()));
        let spans = Spans::begin(&method, &mut request);
        let (call, rpc) = (spans.call.clone(), spans.rpc.clone());
        let mut running = RunningCall {
            observer: Arc::clone(&self.observer),
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            spans,
        };
        let response = self.inner.call(request);
        let observed = async move {
            let response = response.await;
            if let Ok(response) = &response {
                running.answered(response);
            }
            response
        };
        Box::pin(observed.instrument(rpc).instrument(call))
    }
}

/// Counts the call when it is dropped: after the response, or when the caller cancels it.
struct RunningCall {
    observer: Arc<Observer>,
    method: Arc<str>,
    started: Instant,
    code: Code,
    spans: Spans,
}

impl RunningCall {
    /// The headers name the code of an error. A response with a message is OK: its code
    /// follows in the trailers.
    fn answered<B>(&mut self, response: &http::Response<B>) {
        let status = Status::from_header_map(response.headers());
        self.code = status.map_or(Code::Ok, |status| status.code());
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let metrics = &self.observer.metrics;
        metrics.count(&self.method, self.code, duration);
        self.spans.end(self.code);
    }
}
