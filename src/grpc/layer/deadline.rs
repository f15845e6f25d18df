//! Ends every call at its deadline: the caller's (`grpc-timeout`), at most `REQUEST_TIMEOUT`.
//!
//! tonic has a time-out of its own, whose error lacks our `ErrorInfo`. This layer starts its
//! clock first, so it answers first. Handlers read the deadline from the request's extensions.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Extensions, HeaderMap};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::auth::Error;

#[derive(Clone, Copy)]
pub struct DeadlineLayer {
    longest: Duration,
}

impl DeadlineLayer {
    pub const fn new(longest: Duration) -> Self {
        Self { longest }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = EndAtDeadline<S>;

    fn layer(&self, inner: S) -> EndAtDeadline<S> {
        let longest = self.longest;
        EndAtDeadline { inner, longest }
    }
}

#[derive(Clone)]
pub struct EndAtDeadline<S> {
    inner: S,
    longest: Duration,
}

/// The moment at which a call ends.
#[derive(Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn of(extensions: &Extensions) -> Instant {
        extensions.get::<Self>().expect("the layer sets it").0
    }
}

impl<S> Service<http::Request<Body>> for EndAtDeadline<S>
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
        let response = self.inner.call(request);
        Box::pin(async move {
            timeout_at(deadline, response)
                .await
                .unwrap_or_else(|_| Ok(Status::from(Error::DeadlineExceeded).into_http()))
        })
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
