//! The metrics of calls, by method and code, and of connections.
//!
//! A series of a call appears with its first call. All methods with all codes would be
//! thousands of series on a replica without traffic. Both labels are bounded: `Methods` gives
//! `method`, and gRPC has 17 codes.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use crate::telemetry::metrics::{Counters, count, counters};

/// Seconds: from a fast Refresh to the default of `REQUEST_TIMEOUT`.
const BUCKETS: [f64; 10] = [0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Indexed by the number of the code.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<Call, Counter>,
    durations: Family<Method, Histogram, fn() -> Histogram>,
    closed: Counters<&'static str>,
    failed_handshakes: Counter,
}

/// The connection that is closed at a limit.
#[derive(Clone, Copy)]
pub(super) enum ClosedConnection {
    /// The one that was idle the longest.
    Idle,
    /// A new one, because all others have running calls.
    New,
    /// The one with the most unfinished requests and unread answers, at the memory limit.
    Stalled,
}

impl ClosedConnection {
    const ALL: [Self; 3] = [Self::Idle, Self::New, Self::Stalled];

    const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::New => "new",
            Self::Stalled => "stalled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: Arc<str>,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: Arc<str>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let calls = Family::default();
        let help = "Calls, by method and code";
        registry.register("auth_rpc", help, calls.clone());
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> _);
        let help = "How long calls took, by method";
        registry.register("auth_rpc_duration_seconds", help, durations.clone());
        let closed = counters("which", ClosedConnection::ALL.map(ClosedConnection::label));
        let help = "Connections that a limit closed";
        registry.register("auth_connections_closed", help, closed.clone());
        let failed_handshakes = Counter::default();
        let help = "TLS handshakes of clients that failed";
        registry.register(
            "auth_tls_handshakes_failed",
            help,
            failed_handshakes.clone(),
        );
        Self {
            calls,
            durations,
            closed,
            failed_handshakes,
        }
    }

    pub(super) fn closed(&self, connection: ClosedConnection) {
        count(&self.closed, "which", connection.label());
    }

    pub(super) fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }

    pub(super) fn count(&self, method: &Arc<str>, code: Code, duration: Duration) {
        let (method, code) = (Arc::clone(method), CODES[code as usize]);
        let call = Call { method, code };
        self.calls.get_or_create(&call).inc();
        let Call { method, .. } = call;
        let histogram = self.durations.get_or_create(&Method { method });
        histogram.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_name_that_grpc_gives_it() {
        for number in 0..17 {
            let name = CODES[usize::try_from(number).unwrap()];
            let code = format!("{:?}", Code::from_i32(number));
            assert_eq!(name.replace('_', ""), code.to_uppercase());
        }
    }
}
