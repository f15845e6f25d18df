//! How the edge follows the service, whatever happens to it.

use std::{net::SocketAddr, time::Duration};

use auth_service::{
    model::SessionId,
    proto::{KeySet, Revocation, edge_update::Update},
};
use tokio::{net::TcpListener, time::Instant};
use tonic::Status;

use super::{FakeService, Link, Sidecar, Tokens, begin, end, heartbeat, session, sidecar::SHORT};
use crate::harness::{INTERNAL_TOKEN, START, bearer, eventually};

/// In which the next URL must be tried.
const NEXT_URL: Duration = Duration::from_secs(3);

/// An edge that gives a silent stream up soon.
fn impatient(services: &[SocketAddr]) -> Sidecar {
    let urls: Vec<_> = services
        .iter()
        .map(|addr| format!("http://{addr}"))
        .collect();
    let (mut sidecar, clock) = Sidecar::build(&["--auth-url", &urls.join(",")]);
    sidecar.watch_limits.silence = SHORT;
    sidecar.watch_limits.refused = SHORT;
    Sidecar::run((sidecar, clock))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_sent_and_the_first_stream_has_no_cursor() {
    let service = FakeService::start().await;
    let _edge = Sidecar::start(&[service.addr], &[]);
    let call = service.call().await;
    assert_eq!(call.cursor, "");
    assert_eq!(call.authorization, [bearer(INTERNAL_TOKEN)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_goes_on_at_the_next_url_with_the_cursor() {
    let tokens = Tokens::new();
    let [first, second] = [FakeService::start().await, FakeService::start().await];
    let link = Link::to(first.addr).await;
    let edge = Sidecar::start(&[link.addr, second.addr], &[]);
    let call = first.follow(&tokens).await;
    call.send(heartbeat("cursor 2")).await;
    call.send(session(SessionId::new(START))).await;
    eventually(async || edge.metric("auth_edge_revocations").await == 1).await;
    drop(link);
    let lost_at = Instant::now();
    let call = second.call().await;
    assert!(lost_at.elapsed() < NEXT_URL, "{:?}", lost_at.elapsed());
    assert_eq!(call.cursor, "cursor 2");
    // What was missed comes, and until then the edge goes on with what it knows.
    assert_eq!(edge.status(&tokens.token()).await, 200);
    call.send(super::fake::keys(&tokens)).await;
    call.send(session(tokens.session)).await;
    edge.wait_for(&tokens.token(), 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_do_not_answer_are_passed_over() {
    let tokens = Tokens::new();
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    // It accepts nothing: the kernel completes connections, and nobody answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = FakeService::start().await;
    let edge = impatient(&[closed, mute.local_addr().unwrap(), service.addr]);
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_given_up() {
    let tokens = Tokens::new();
    let [first, second] = [FakeService::start().await, FakeService::start().await];
    let _edge = impatient(&[first.addr, second.addr]);
    let call = first.follow(&tokens).await;
    let next = second.call().await;
    assert_eq!(next.cursor, "cursor 1");
    call.given_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_order_is_opened_again_at_once_at_the_same_url() {
    let tokens = Tokens::new();
    let [first, second] = [FakeService::start().await, FakeService::start().await];
    let edge = Sidecar::start(&[first.addr, second.addr], &[]);
    for expected in ["", "cursor 1", "cursor 1"] {
        let call = first.call().await;
        assert_eq!(call.cursor, expected);
        call.send(super::fake::keys(&tokens)).await;
        if expected.is_empty() {
            call.send(begin()).await;
            call.send(end("cursor 1")).await;
        } else {
            call.send(heartbeat("cursor 1")).await;
        }
        edge.wait_until_ready().await;
    }
    assert!(second.is_quiet(SHORT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_refused_is_dropped() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    drop(service.follow(&tokens).await);
    let call = service.call().await;
    assert_eq!(call.cursor, "cursor 1");
    call.fail(Status::invalid_argument("no cursor")).await;
    let call = service.follow(&tokens).await;
    assert_eq!(call.cursor, "");
    assert_eq!(edge.status(&tokens.token()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_refused_tries_again_slowly() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = impatient(&[service.addr]);
    for status in [
        Status::permission_denied("no"),
        Status::unauthenticated("no"),
    ] {
        service.call().await.fail(status).await;
        let refused_at = Instant::now();
        let call = service.call().await;
        assert!(
            refused_at.elapsed() >= SHORT / 2,
            "{:?}",
            refused_at.elapsed()
        );
        call.fail(Status::unavailable("stopping")).await;
    }
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_cut_is_asked_for_again() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.call().await;
    call.send(super::fake::keys(&tokens)).await;
    call.send(begin()).await;
    call.send(session(tokens.session)).await;
    drop(call);
    let call = service.call().await;
    assert_eq!(
        (call.cursor.as_str(), edge.probe("/readyz").await.0),
        ("", 503)
    );
    // An end without a beginning does not complete it.
    call.send(super::fake::keys(&tokens)).await;
    call.send(end("cursor 1")).await;
    call.given_up().await;
    let call = service.follow(&tokens).await;
    assert_eq!(call.cursor, "");
    edge.wait_for(&tokens.token(), 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_on_the_way_keeps_what_is_known() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.follow(&tokens).await;
    call.send(session(tokens.session)).await;
    edge.wait_for(&tokens.token(), 401).await;
    let other = tokens.issue(START, SessionId::new(START), &[]);
    call.send(begin()).await;
    call.send(heartbeat("a cursor in a snapshot")).await;
    assert_eq!(edge.status(&tokens.token()).await, 401);
    assert_eq!(edge.status(&other).await, 200);
    drop(call);
    assert_eq!(service.call().await.cursor, "cursor 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_replace_the_old_ones() {
    let tokens = Tokens::new();
    let new = Tokens::signed_with("the-next-secret-of-at-least-32-bytes");
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    assert_eq!(edge.status(&new.token()).await, 401);
    let mut both = tokens.keys();
    both.verification_keys.extend(new.keys().verification_keys);
    call.send(Update::Keys(both)).await;
    edge.wait_for(&new.token(), 200).await;
    assert_eq!(edge.status(&tokens.token()).await, 200);
    call.send(super::fake::keys(&new)).await;
    edge.wait_for(&tokens.token(), 401).await;
    assert_eq!(edge.status(&new.token()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_ends_the_stream_and_the_cursor_stays() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    drop(service.follow(&tokens).await);
    let malformed = [
        Update::Revoked(Revocation {
            until: None,
            ..revocation()
        }),
        Update::Revoked(Revocation {
            tokens: Some(auth_service::proto::revocation::Tokens::SessionId(
                "x".to_owned(),
            )),
            ..revocation()
        }),
        Update::Keys(KeySet::default()),
        Update::Keys(KeySet {
            max_age: None,
            ..tokens.keys()
        }),
        Update::Keys(KeySet {
            access_token_ttl: None,
            ..tokens.keys()
        }),
        heartbeat(""),
    ];
    for update in malformed {
        let call = service.call().await;
        assert_eq!(call.cursor, "cursor 1");
        call.send(update).await;
        call.given_up().await;
        assert_eq!(edge.status(&tokens.token()).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_newer_service_sends_is_skipped() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.call().await;
    let mut keys = tokens.keys();
    let mut other = tokens.keys().verification_keys.remove(0);
    other.algorithm = "EdDSA".to_owned();
    keys.verification_keys.insert(0, other);
    call.send(Update::Keys(keys)).await;
    call.send(begin()).await;
    call.send_unknown().await;
    call.send(end("cursor 1")).await;
    edge.wait_for(&tokens.token(), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_revocation_that_only_a_newer_service_sends_a_stream_is_not_complete() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.follow(&tokens).await;
    edge.wait_for(&tokens.token(), 200).await;
    let unknown = Update::Revoked(Revocation {
        tokens: None,
        ..revocation()
    });
    call.send(unknown).await;
    call.send(heartbeat("cursor 2")).await;
    // What it does understand still holds.
    let ended = SessionId::new(START);
    call.send(session(ended)).await;
    edge.wait_for(&tokens.issue(START, ended, &[]), 401).await;
    drop(call);
    let next = service.call().await;
    assert_eq!(next.cursor, "cursor 1");
    assert_eq!(edge.status(&tokens.token()).await, 200);
}

fn revocation() -> Revocation {
    match session(SessionId::new(START)) {
        Update::Revoked(revocation) => revocation,
        _ => unreachable!("a revocation"),
    }
}
