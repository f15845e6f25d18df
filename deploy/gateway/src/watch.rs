//! Keeps a stream of `EdgeService.Watch` open, for the [`Verifier`].
//!
//! A stream ends when its replica stops, its connection gets old or the network fails. The next
//! one begins with the last cursor, at any replica, so nothing is missed in between. A replica
//! that cannot read its database sends no heartbeat, and neither does a broken connection: each
//! stream has a connection of its own, and is given up after ten seconds without a message.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::{
    auth::{Auth, random, retry_delay},
    proto::WatchRequest,
    verifier::Verifier,
};

/// There is a heartbeat every second.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

pub async fn run(auth: Auth, verifier: Arc<Verifier>) -> Infallible {
    let mut backoff = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = receive(&auth, &verifier).await;
        if began.elapsed() > LONGEST_PAUSE {
            // The stream has worked for a while.
            backoff = FIRST_PAUSE;
        }
        let requested = ended.err().and_then(|status| lost(&verifier, &status));
        // Full jitter: without it all gateways would reconnect at the same moment.
        sleep(requested.unwrap_or_default() + backoff.mul_f64(random())).await;
        backoff = (backoff * 3).min(LONGEST_PAUSE);
    }
}

/// Until the service ends the stream.
async fn receive(auth: &Auth, verifier: &Verifier) -> Result<(), Status> {
    let message = WatchRequest {
        cursor: verifier.begin_stream(),
    };
    let mut client = auth.edge();
    let stream = in_time(client.watch(auth.request_stream(message))).await?;
    let mut stream = stream.into_inner();
    while let Some(message) = in_time(stream.message()).await? {
        // A newer service may send more kinds of messages.
        let Some(update) = message.update else {
            continue;
        };
        let malformed = || Status::data_loss("a malformed message");
        verifier.receive(update).ok_or_else(malformed)?;
    }
    Ok(())
}

async fn in_time<T>(message: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("no message"));
    timeout(MESSAGE_TIMEOUT, message).await.unwrap_or_else(late)
}

/// Returns the pause that the service requests.
fn lost(verifier: &Verifier, status: &Status) -> Option<Duration> {
    eprintln!(
        "the stream of keys and ended sessions is lost: {:?}",
        status.code()
    );
    if status.code() == Code::InvalidArgument {
        // The service does not know the cursor: begin with a snapshot.
        verifier.forget_cursor();
    }
    retry_delay(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{SnapshotBegin, SnapshotEnd, edge_update::Update};

    #[test]
    fn a_cursor_that_the_service_does_not_know_is_dropped() {
        let verifier = Verifier::default();
        let cursor = "r1-1".to_owned();
        let end = Update::SnapshotEnd(SnapshotEnd { cursor });
        for update in [Update::SnapshotBegin(SnapshotBegin {}), end] {
            verifier.receive(update).expect("a well-formed message");
        }
        lost(&verifier, &Status::unavailable(""));
        assert_eq!(verifier.begin_stream(), "r1-1");
        lost(&verifier, &Status::invalid_argument(""));
        assert_eq!(verifier.begin_stream(), "");
    }
}
