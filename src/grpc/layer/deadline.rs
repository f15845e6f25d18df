//! Ends every call at its deadline: the caller's (`grpc-timeout`), at most `REQUEST_TIMEOUT`. A
//! stream whose answer has begun goes on.
//!
//! tonic has a time-out of its own, whose error lacks our `ErrorInfo`. This layer's timer ends
//! before tonic's, so its error is sent. Handlers read the deadline from the request's
//! extensions.

use std::{convert::Infallible, time::Duration};

use http::{Extensions, HeaderMap};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tower::{Service, service_fn};

use super::{Request, Response};
use crate::auth::Error;

/// How much earlier than tonic's timer ours ends. Timers have a resolution of a millisecond, and
/// two that end together may be seen in any order.
const AHEAD: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
pub struct Deadline {
    call: Instant,
    callers: Option<Instant>,
}

impl Deadline {
    pub fn of(extensions: &Extensions) -> Instant {
        Self::get(extensions).call
    }

    /// The caller's, for a stream that may last longer than a call.
    pub fn of_stream(extensions: &Extensions) -> Option<Instant> {
        Self::get(extensions).callers
    }

    fn get(extensions: &Extensions) -> &Self {
        extensions.get().expect("the layer sets it")
    }
}

/// `service_fn` does not ask `inner` whether it is ready: tonic's routes always are.
pub fn end_at_deadline<S>(
    mut inner: S,
    longest: Duration,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone,
{
    service_fn(move |mut request: Request| {
        let ends_after = |time: Duration| Instant::now() + time.saturating_sub(AHEAD);
        let callers = timeout(request.headers()).map(ends_after);
        let longest = ends_after(longest);
        let deadline = callers.map_or(longest, |callers| callers.min(longest));
        request.extensions_mut().insert(Deadline {
            call: deadline,
            callers,
        });
        let response = inner.call(request);
        async move {
            // Even a timer for a past moment may take a millisecond.
            if Instant::now() < deadline
                && let Ok(response) = timeout_at(deadline, response).await
            {
                return response;
            }
            Ok(Status::from(Error::DeadlineExceeded).into_http())
        }
    })
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
        for value in ["", "S", "5", "5x", "-5S", "+5S", "1.5S", "5 S", "5S "] {
            assert_eq!(parse(value), None, "{value:?}");
        }
        assert_eq!(parse("123456789S"), None);
    }
}
