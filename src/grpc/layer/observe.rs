//! Counts and traces every call.
//!
//! This is the outermost layer, so it also counts the calls that the other layers refuse and
//! the calls that the caller cancels (`CANCELLED`). A stream is counted when it begins.

use std::{convert::Infallible, sync::Arc, time::Instant};

use tonic::{Code, Status};
use tower::{Service, service_fn};
use tracing::Instrument as _;

use super::{Request, Response, methods::Methods, trace::Spans};
use crate::grpc::Metrics;

pub struct Observer {
    methods: Methods,
    metrics: Metrics,
}

impl Observer {
    pub fn new(metrics: Metrics) -> Self {
        let methods = Methods::decode();
        Self { methods, metrics }
    }
}

/// `service_fn` does not ask `inner` whether it is ready: tonic's routes always are.
pub fn observe<S>(
    mut inner: S,
    observer: Arc<Observer>,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone,
{
    service_fn(move |mut request: Request| {
        let method = Arc::clone(observer.methods.name(request.uri().path()));
        let spans = Spans::begin(&method, &mut request);
        let (call, rpc) = (spans.call.clone(), spans.rpc.clone());
        let mut running = RunningCall {
            observer: Arc::clone(&observer),
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            spans,
        };
        let response = inner.call(request);
        let counted = async move {
            let response = response.await;
            if let Ok(response) = &response {
                running.answered(response);
            }
            response
        };
        counted.instrument(rpc).instrument(call)
    })
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
    fn answered(&mut self, response: &Response) {
        let status = Status::from_header_map(response.headers());
        self.code = status.map_or(Code::Ok, |status| status.code());
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let Observer { metrics, .. } = &*self.observer;
        metrics.count(&self.method, self.code, duration);
        self.spans.end(self.code);
    }
}
