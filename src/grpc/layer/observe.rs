//! Counts and traces every call.
//!
//! This is the outermost layer, so it also counts the calls that the other layers refuse and
//! the calls that the caller cancels (`CANCELLED`). A call that takes a stream of requests is
//! counted when its answer ends. Another stream of answers is counted when it begins.

mod answer;

use std::{convert::Infallible, sync::Arc, time::Instant};

use tonic::{Code, Status, body::Body};
use tower::{Service, service_fn};

use self::answer::Answer;
use super::{
    Request, Response,
    methods::{Method, Methods},
    trace::Spans,
};
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
        let method = observer.methods.find(request.uri().path()).clone();
        let spans = Spans::begin(&method.name, &mut request);
        if method.takes_stream {
            spans.pass_on(&mut request);
        }
        let entered = spans.clone();
        let mut running = RunningCall {
            observer: Arc::clone(&observer),
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            spans,
        };
        let response = inner.call(request);
        let counted = async move {
            let response = response.await?;
            let refusal = Status::from_header_map(response.headers());
            if running.method.takes_stream && refusal.is_none() {
                return Ok(response.map(|body| Body::new(Answer::new(body, running))));
            }
            // The headers name the code of an error. A response with a message is OK: its code
            // follows in the trailers.
            running.answered(refusal.map_or(Code::Ok, |status| status.code()));
            Ok(response)
        };
        entered.instrument(counted)
    })
}

/// Counts the call when it is dropped: after the response, or when the caller cancels it.
struct RunningCall {
    observer: Arc<Observer>,
    method: Method,
    started: Instant,
    code: Code,
    spans: Spans,
}

impl RunningCall {
    const fn answered(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let Observer { metrics, .. } = &*self.observer;
        metrics.count(&self.method.name, self.code, duration);
        self.spans.end(self.code);
    }
}
