//! No call outlives its deadline: the caller's own (`grpc-timeout`), at most
//! `REQUEST_TIMEOUT`.
//!
//! tonic has a timeout of its own, whose answer lacks our `ErrorInfo`. This layer starts
//! its clock first and so answers first. Handlers find the deadline in the request's
//! extensions.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Status, body::Body};
use tower::{Layer, Service};

use super::trace;
use crate::{
    auth::{Call, Error},
    stack::Wiping,
};

/// Bounds every call.
#[derive(Clone, Copy)]
pub(super) struct DeadlineLayer {
    /// The longest that a call may take.
    pub(super) longest: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            longest: self.longest,
        }
    }
}

/// A service whose calls are bounded.
#[derive(Clone)]
pub(super) struct Bounded<S> {
    inner: S,
    longest: Duration,
}

#[derive(Clone, Copy)]
struct Deadline(Instant);

impl<S> Service<http::Request<Body>> for Bounded<S>
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
        let wanted = timeout(request.headers()).unwrap_or(self.longest);
        let deadline = Instant::now() + wanted.min(self.longest);
        request.extensions_mut().insert(Deadline(deadline));
        // What the handlers see of passwords and tokens does not stay on the stack.
        let answer = Wiping(Box::pin(self.inner.call(request)));
        Box::pin(async move {
            timeout_at(deadline, answer)
                .await
                .unwrap_or_else(|_| Ok(Status::from(Error::DeadlineExceeded).into_http()))
        })
    }
}

/// What a use case needs to know of a request.
pub(super) fn call<T>(request: &Request<T>) -> Call {
    let deadline = request.extensions().get::<Deadline>();
    Call {
        deadline: deadline.expect("the layer set it").0,
        traceparent: trace::traceparent(request.extensions()),
        client_address: None,
    }
}

/// The `grpc-timeout` header: up to 8 digits and a unit. A malformed one counts as absent.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(amount)),
        "M" => Some(Duration::from_mins(amount)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &'static str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-timeout"),
            http::HeaderValue::from_static(value),
        )]);
        timeout(&headers)
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_hours(2)));
        assert_eq!(parse("3M"), Some(Duration::from_mins(3)));
        assert_eq!(parse("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parse("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
    }

    #[test]
    fn anything_else_is_no_timeout() {
        for value in [
            "",
            "S",
            "5",
            "5x",
            "-5S",
            "+5S",
            "1.5S",
            "123456789S",
            "5 S",
            "5S ",
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }
}
