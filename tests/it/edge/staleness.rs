//! What an edge does without news of the service.

use std::time::Duration;

use tokio::time::sleep;

use super::{Call, FakeService, Sidecar, Tokens, fake::keys, heartbeat};
use crate::harness::eventually;

/// Longer than the pause between two heartbeats of these tests, also on a busy machine.
const STALENESS: Duration = Duration::from_secs(1);

/// An edge that gets stale soon.
fn start(service: &FakeService, options: &[&str]) -> Sidecar {
    Sidecar::start_with(&[service.addr], options, |settings| {
        settings.max_staleness = STALENESS;
    })
}

/// Sends heartbeats while `work` is done.
async fn alive<T>(call: &Call, work: impl Future<Output = T>) -> T {
    let beats = async {
        loop {
            call.send(heartbeat("cursor 2")).await;
            sleep(STALENESS / 20).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = beats => unreachable!("they do not end"),
    }
}

async fn is_stale(edge: &Sidecar) -> bool {
    edge.metric("auth_edge_stale").await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_edge_goes_on_by_default() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = start(&service, &[]);
    let call = service.follow(&tokens).await;
    alive(&call, edge.wait_until_ready()).await;
    alive(&call, eventually(async || !is_stale(&edge).await)).await;
    eventually(async || is_stale(&edge).await).await;
    assert_eq!(edge.status(&tokens.token()).await, 200);
    assert_eq!(edge.probe("/readyz").await.0, 200);
    alive(&call, eventually(async || !is_stale(&edge).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_edge_refuses_if_it_is_told_to_and_recovers() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = start(&service, &["--edge-when-stale", "refuse"]);
    let call = service.follow(&tokens).await;
    alive(&call, edge.wait_until_ready()).await;
    edge.wait_for(&tokens.token(), 503).await;
    assert!(is_stale(&edge).await);
    assert_eq!(edge.check(&[]).await.header("retry-after"), Some("1"));
    let (status, why) = edge.probe("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready: new revocations are unknown\n")
    );
    alive(&call, edge.wait_for(&tokens.token(), 200)).await;
    alive(&call, edge.wait_until_ready()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_database_keeps_no_edge_fresh() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = start(&service, &[]);
    let call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    let fresh = async {
        loop {
            call.send(keys(&tokens)).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = fresh => {}
        () = eventually(async || is_stale(&edge).await) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_keys_are_dropped_and_the_next_stream_brings_them_back() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = start(&service, &[]);
    let call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    let mut short = tokens.keys();
    let max_age = Duration::from_millis(200);
    short.max_age = Some(max_age.try_into().unwrap());
    call.send(auth_service::proto::edge_update::Update::Keys(short))
        .await;
    edge.wait_for(&tokens.token(), 503).await;
    let (status, why) = edge.probe("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready: the keys are too old\n")
    );
    assert!(is_stale(&edge).await);
    // New keys count as soon as all revocations are known too.
    call.send(keys(&tokens)).await;
    call.send(heartbeat("cursor 2")).await;
    edge.wait_for(&tokens.token(), 200).await;
}
