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

use crate::telemetry::{CALLS, SPANS, traces};

/// The spans of a call.
pub(super) struct Spans {
    /// For the log.
    pub(super) call: Span,
    /// For the traces; disabled without them.
    pub(super) rpc: Span,
}

/// What the events of a call hand on.
#[derive(Clone)]
struct Traceparent(String);

impl Spans {
    /// Begins a call, as a part of the caller's trace if there is one.
    pub(super) fn begin<B>(method: &'static str, request: &mut http::Request<B>) -> Self {
        let theirs = valid_traceparent(request.headers());
        let call = info_span!(target: CALLS, "call", method, trace_id = Empty);
        let rpc = info_span!(target: SPANS, parent: None, "rpc", otel.name = method,
            otel.kind = "server", otel.status_code = Empty,
            rpc.system = "grpc", rpc.grpc.status_code = Empty);
        if let Some(theirs) = &theirs {
            traces::go_on(&rpc, theirs);
        }
        if let Some(traceparent) = traces::traceparent(&rpc).or(theirs) {
            if let Some(trace_id) = traceparent.split('-').nth(1) {
                call.record("trace_id", display(trace_id));
            }
            request.extensions_mut().insert(Traceparent(traceparent));
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
pub(super) fn traceparent(extensions: &http::Extensions) -> Option<String> {
    let found = extensions.get::<Traceparent>();
    found.map(|Traceparent(text)| text.clone())
}

/// The `traceparent` of a call, if it is a valid one of version 00.
fn valid_traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    is_valid(value).then(|| value.to_owned())
}

fn is_valid(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace_id, parent_id, flags] = parts[..] else {
        return false;
    };
    version == "00" && is_id(trace_id, 32) && is_id(parent_id, 16) && is_hex(flags, 2)
}

/// An id of zeros only is no id.
fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_trace_context_travels_on() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_valid(valid));
        for invalid in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &valid.to_uppercase(),
            &format!("{valid}-00"),
        ] {
            assert!(!is_valid(invalid), "{invalid:?}");
        }
    }
}
