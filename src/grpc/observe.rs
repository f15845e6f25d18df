//! Every call is seen: counted and timed by method and code, and a span of a trace.
//!
//! This is the outermost layer, so calls that the others refuse count too, and so do those
//! whose caller went away (`CANCELLED`, as the caller would call it). Streams count when
//! they begin. What is no method of ours is `unknown`: nobody can make series here.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::trace::Spans;
use crate::telemetry::metrics::RpcMetrics;

const METHODS: [&str; 15] = [
    "realchat.auth.v1.AuthService/Register",
    "realchat.auth.v1.AuthService/Login",
    "realchat.auth.v1.AuthService/Refresh",
    "realchat.auth.v1.AuthService/Logout",
    "realchat.auth.v1.AuthService/GetSigningKey",
    "realchat.auth.v1.AccountService/GetAccount",
    "realchat.auth.v1.AccountService/ChangePassword",
    "realchat.auth.v1.AccountService/ListSessions",
    "realchat.auth.v1.AccountService/EndSession",
    "realchat.auth.v1.AccountService/EndOtherSessions",
    "realchat.auth.v1.AccountService/DeleteAccount",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
const UNKNOWN: &str = "unknown";

/// By number.
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

/// Those of the contract, and of a caller that went away. Others appear when they are seen.
const EXPECTED: [Code; 10] = [
    Code::Ok,
    Code::Cancelled,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::Unimplemented,
    Code::Internal,
    Code::Unauthenticated,
];

/// What is measured of calls.
#[must_use]
pub fn metrics() -> RpcMetrics {
    let methods = METHODS.into_iter().map(name).chain([UNKNOWN]);
    RpcMetrics::new(methods, &EXPECTED.map(|code| CODES[code as usize]))
}

/// Sees every call.
#[derive(Clone)]
pub(super) struct ObserveLayer(pub(super) RpcMetrics);

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        let metrics = self.0.clone();
        Observed { inner, metrics }
    }
}

/// A service whose calls are seen.
#[derive(Clone)]
pub(super) struct Observed<S> {
    inner: S,
    metrics: RpcMetrics,
}

impl<S> Service<http::Request<Body>> for Observed<S>
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
        let method = method(request.uri().path());
        let spans = Spans::begin(method, &mut request);
        let (call, rpc) = (spans.call.clone(), spans.rpc.clone());
        let mut seen = Seen {
            metrics: self.metrics.clone(),
            method,
            began: Instant::now(),
            code: Code::Cancelled,
            spans,
        };
        let answer = self.inner.call(request);
        let seen = async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                // A reply that is sent whole has its code after the message: it is OK.
                let status = Status::from_header_map(response.headers());
                seen.answered_with(status.map_or(Code::Ok, |status| status.code()));
            }
            answer
        };
        Box::pin(seen.instrument(rpc).instrument(call))
    }
}

/// A call that was seen, to be counted when it is over.
struct Seen {
    metrics: RpcMetrics,
    method: &'static str,
    began: Instant,
    code: Code,
    spans: Spans,
}

impl Seen {
    const fn answered_with(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let code = CODES[self.code as usize];
        self.metrics
            .answered(self.method, code, self.began.elapsed());
        self.spans.end(self.code);
    }
}

fn method(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or_default();
    let known = METHODS.into_iter().find(|method| *method == path);
    known.map_or(UNKNOWN, name)
}

/// The name without the service's: no two of ours share it.
fn name(method: &'static str) -> &'static str {
    method.rsplit_once('/').map_or(method, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::DESCRIPTORS;

    #[test]
    fn every_method_of_ours_has_its_name() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_eq!(super::method(&path), method.name());
                }
            }
        }
        for path in ["", "/", "Login", "/realchat.auth.v1.AuthService/Forget"] {
            assert_eq!(super::method(path), UNKNOWN);
        }
    }

    #[test]
    fn a_code_has_the_name_that_grpc_gives_it() {
        for number in 0..17 {
            let name = CODES[usize::try_from(number).unwrap()];
            let code = format!("{:?}", Code::from_i32(number));
            assert_eq!(name.replace('_', ""), code.to_uppercase());
        }
    }
}
