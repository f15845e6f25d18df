//! Tests of retries, with tokio's clock paused.

use std::{cell::Cell, future::pending, time::Duration};

use realchat_gateway_example::auth::{is_temporary, is_unreachable, retrying};
use tokio::time::Instant;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn later(delay: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Status::with_error_details(Code::Internal, "the database is gone", details)
}

/// Makes a failing call; returns the number of attempts and their duration.
async fn failing(should_retry: fn(&Status) -> bool, status: Status) -> (u32, Duration) {
    let (calls, start) = (Cell::new(0), Instant::now());
    let result = retrying(should_retry, || {
        calls.set(calls.get() + 1);
        let status = status.clone();
        async { Err::<Response<()>, _>(status) }
    });
    assert_eq!(result.await.unwrap_err().code(), status.code());
    (calls.get(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_the_retry_delay_unless_it_passes_the_deadline() {
    let (calls, took) = failing(is_temporary, later(Duration::from_secs(2))).await;
    assert_eq!(calls, 4);
    assert!((6..8).contains(&took.as_secs()), "{took:?}");
    let (calls, took) = failing(is_temporary, later(Duration::from_secs(9))).await;
    assert_eq!((calls, took), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn only_errors_that_allow_a_retry_are_retried() {
    let second = Duration::from_secs(1);
    assert_eq!(failing(is_unreachable, later(second)).await.0, 1);
    assert_eq!(failing(is_temporary, Status::internal("a bug")).await.0, 1);
    assert_eq!(failing(is_unreachable, Status::unavailable("")).await.0, 4);
}

#[tokio::test(start_paused = true)]
async fn all_attempts_together_have_one_deadline() {
    let start = Instant::now();
    let first = Cell::new(true);
    let result = retrying(is_temporary, || {
        let fails = first.replace(false);
        async move {
            if fails {
                tokio::time::sleep(Duration::from_secs(5)).await;
                return Err(Status::unavailable("the connection broke"));
            }
            pending::<Result<Response<()>, _>>().await
        }
    });
    assert_eq!(result.await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 8);
}
