//! Waiting without a fixed time, and names that no other test uses.

use std::time::{Duration, Instant};

/// Asks again until there is an answer.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The tests share Kafka and the SMTP server.
pub fn unique(name: &str) -> String {
    format!("{name}-{:016x}", getrandom::u64().unwrap())
}

pub fn address(name: &str) -> String {
    format!("{}@example.com", unique(name))
}
