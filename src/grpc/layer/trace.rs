//! The spans of a call, and the trace that it belongs to (W3C Trace Context).
//!
//! A call has two spans: `rpc` is exported with the traces, if there is an exporter; `call`
//! gives each log line of the call its method and its trace id, if there is one. Handlers read
//! the `Traceparent` from the request's extensions and pass it on to the events of the call.

use http::Extensions;
use tonic::Code;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
    info_span,
};

use super::Request;
use crate::{
    model::Traceparent,
    telemetry::{CALLS, SPANS, traces},
};

#[derive(Clone)]
pub struct Spans {
    call: Span,
    rpc: Span,
}

impl Spans {
    pub(super) fn begin(method: &str, request: &mut Request) -> Self {
        let header = request.headers().get("traceparent");
        let header = header.and_then(|value| value.to_str().ok());
        let callers = header.and_then(Traceparent::parse);
        let call = info_span!(target: CALLS, "call", method, trace_id = Empty);
        let rpc = info_span!(target: SPANS, parent: None, "rpc", otel.name = method,
            otel.kind = "server", otel.status_code = Empty,
            rpc.system = "grpc", rpc.grpc.status_code = Empty);
        if let Some(callers) = &callers {
            traces::set_parent(&rpc, callers);
        }
        if let Some(traceparent) = traces::traceparent(&rpc).or(callers) {
            call.record("trace_id", display(traceparent.trace_id()));
            request.extensions_mut().insert(traceparent);
        }
        Self { call, rpc }
    }

    /// A call that takes a stream may work in a task of its own, which belongs to its spans.
    pub(super) fn pass_on(&self, request: &mut Request) {
        request.extensions_mut().insert(self.clone());
    }

    /// The spans of a call that takes a stream.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().expect("the layer sets them")
    }

    pub fn instrument<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        work.instrument(self.rpc).instrument(self.call)
    }

    pub(super) fn in_scope<T>(&self, act: impl FnOnce() -> T) -> T {
        self.call.in_scope(|| self.rpc.in_scope(act))
    }

    pub(super) fn end(&self, code: Code) {
        self.rpc.record("rpc.grpc.status_code", code as i32);
        // The codes that OpenTelemetry's conventions for gRPC treat as server errors.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            self.rpc.record("otel.status_code", "ERROR");
        }
    }
}
