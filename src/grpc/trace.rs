//! The trace that a call belongs to (W3C Trace Context), which travels on with its events.
//!
//! A call has two spans: `rpc` is sent with the traces, if they are sent at all, and `call`
//! gives each line of the log the method and the trace id, if there is one.

use http::HeaderMap;
use tonic::Code;
use tracing::{
    Span,
    field::{Empty, display},
    info_span,
};

use crate::{
    model::Traceparent,
    telemetry::{CALLS, SPANS, traces},
};

/// The spans of a call.
pub(super) struct Spans {
    /// For the log.
    pub(super) call: Span,
    /// For the traces; disabled without them.
    pub(super) rpc: Span,
}

impl Spans {
    /// Begins a call, as a part of the caller's trace if there is one.
    pub(super) fn begin<B>(method: &str, request: &mut http::Request<B>) -> Self {
        let theirs = valid_traceparent(request.headers());
        let call = info_span!(target: CALLS, "call", method, trace_id = Empty);
        let rpc = info_span!(target: SPANS, parent: None, "rpc", otel.name = method,
            otel.kind = "server", otel.status_code = Empty,
            rpc.system = "grpc", rpc.grpc.status_code = Empty);
        if let Some(theirs) = &theirs {
            traces::go_on(&rpc, theirs);
        }
        if let Some(traceparent) = traces::traceparent(&rpc).or(theirs) {
            call.record("trace_id", display(traceparent.trace_id()));
            request.extensions_mut().insert(traceparent);
        }
        Self { call, rpc }
    }

    /// Ends it.
    pub(super) fn end(&self, code: Code) {
        self.rpc.record("rpc.grpc.status_code", code as i32);
        // Those that are the server's fault (OpenTelemetry's conventions for gRPC).
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

/// The `traceparent` for what a call causes.
pub(super) fn traceparent(extensions: &http::Extensions) -> Option<Traceparent> {
    extensions.get().cloned()
}

fn valid_traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    Traceparent::parse(headers.get("traceparent")?.to_str().ok()?)
}
