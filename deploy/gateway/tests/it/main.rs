//! Tests of the gateway: its JSON routes and its pages, against the real service.

mod browser;
mod gateway;
mod http;
mod json;
mod mailer;
mod pages;
mod proxy;
mod retrying;
mod service;
mod support;

use std::time::{Duration, Instant};

/// Waits for a state of another process.
async fn eventually<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = state().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} is missing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
