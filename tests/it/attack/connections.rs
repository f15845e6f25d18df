//! How connections end, and how many calls on one connection affect each other.
//!
//! The calls are of `GetSigningKey`: it needs no database and no hash, so a busy machine cannot
//! make it fail.

use std::{net::SocketAddr, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::target::start;
use crate::harness::{
    Backend, BareConnection, DATA, Frames, Service, TestDatabase, TokenParts, assert_invalid_token,
    call_but_its_end, cancelled_call, connect, end_of_call, login, reason, refresh, refused,
    retry_after,
};

/// A burst that the server bears: its limit of calls that are cancelled before they begin.
const BURST: u32 = 256;
const METHOD: &str = "GetSigningKey";
/// A message without fields, with gRPC's prefix.
const BODY: [u8; 5] = [0; 5];

/// A call stays open until its client, which waits for the GOAWAY, has sent the rest.
const LONG_CALLS: [&str; 2] = ["--request-timeout", "10m"];

async fn assert_new_connection_served(addr: SocketAddr) {
    let call = [call_but_its_end(1, METHOD, &BODY), end_of_call(1, &BODY)];
    let mut frames = Frames::open(addr, &call.concat()).await;
    answered(&mut frames, vec![1]).await;
}

/// Reads until the calls on these streams are answered, all of them without an error.
async fn answered(frames: &mut Frames, mut streams: Vec<u32>) {
    while !streams.is_empty() {
        let frame = frames.next().await.expect("an answer before the end");
        if frame.kind == DATA {
            streams.retain(|stream| *stream != frame.stream);
        }
        // An error has no message.
        let failed = frame.ends_stream() && streams.contains(&frame.stream);
        assert!(!failed, "{frame:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_asked_to_go_and_its_running_call_finishes() {
    let service = start(&LONG_CALLS, |limits| {
        limits.connection_age = Duration::from_millis(300);
    })
    .await;
    let call = call_but_its_end(1, METHOD, &BODY);
    let mut frames = Frames::open(service.addr, &call).await;
    let reason = loop {
        let frame = frames.next().await.expect("a reason before the end");
        if let Some(reason) = frame.goaway() {
            break reason;
        }
    };
    assert_eq!(reason, h2::Reason::NO_ERROR);
    assert_new_connection_served(service.addr).await;
    let sent = frames.write(&end_of_call(1, &BODY)).await;
    sent.expect("it still reads");
    answered(&mut frames, vec![1]).await;
    // No call runs, so the server closes the connection.
    while frames.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_end_is_cut_some_time_later() {
    let service = start(&LONG_CALLS, |limits| {
        limits.connection_age = Duration::from_millis(300);
        limits.goaway_grace_period = Duration::from_millis(300);
    })
    .await;
    let mut messages = 0;
    let until_cut = async {
        // On a slow machine the connection may end before the stream has begun.
        while messages == 0 {
            let mut client = HealthClient::new(connect(service.addr).await);
            let Ok(watch) = client.watch(HealthCheckRequest::default()).await else {
                continue;
            };
            let mut health = watch.into_inner();
            while health.message().await.is_ok_and(|status| status.is_some()) {
                messages += 1;
            }
        }
    };
    timeout(Duration::from_mins(1), until_cut)
        .await
        .expect("it is cut");
}

/// A gateway does this when a client of its own has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_cancelled_calls_leaves_the_others_alone() {
    let service = start(&LONG_CALLS, |_| {}).await;
    let streams = (1..80).step_by(2).collect::<Vec<_>>();
    let running = streams
        .iter()
        .flat_map(|&stream| call_but_its_end(stream, METHOD, &BODY));
    let mut frames = Frames::open(service.addr, &running.collect::<Vec<_>>()).await;
    assert_eq!(frames.settle().await, Ok(()));

    let cancelled = (0..BURST).flat_map(|n| cancelled_call(101 + 2 * n, METHOD));
    let sent = frames.write(&cancelled.collect::<Vec<_>>()).await;
    sent.expect("it reads");
    assert_eq!(frames.settle().await, Ok(()));

    let ends = streams
        .iter()
        .flat_map(|&stream| end_of_call(stream, &BODY));
    let sent = frames.write(&ends.collect::<Vec<_>>()).await;
    sent.expect("it still reads");
    answered(&mut frames, streams).await;
}

/// A gateway may have one connection for all its users. A flood of logins must not keep their
/// refreshes waiting: the hasher takes minutes for these logins.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_logins_leave_the_other_calls_of_their_connection_alone() {
    /// More than a connection may have waiting.
    const LOGINS: usize = 600;
    let slow_hashes = ["--bcrypt-cost", "16", "--password-threads", "1"];
    let long_waits = ["--password-max-wait", "59m", "--request-timeout", "1h"];
    let options = [slow_hashes, long_waits].concat();
    let database = TestDatabase::create(Backend::Sqlite).await;
    let database = database.expect("SQLite is always there");
    let service = Service::start_unconnected(database, &options).await;
    let connection = BareConnection::open(service.addr).await;

    let mut waiting = FuturesUnordered::new();
    for _ in 0..LOGINS {
        let mut client = connection.client();
        // A malformed address costs a hash, but the database is not asked: it may be slow.
        let login = login("no address");
        waiting.push(tokio::spawn(async move { client.login(login).await }));
    }
    // The first answer is that of a login beyond the limit of the connection.
    let first = waiting.next().await.expect("there are logins").unwrap();
    let overloaded = refused(first);
    let expected = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(reason(&overloaded), expected);
    assert!(retry_after(&overloaded).is_some());

    let token = TokenParts::random().text();
    let answer = connection.client().refresh(refresh(&token)).await;
    assert_invalid_token(&refused(answer));
    // The refused ones are gone; many more than the streams of before still wait.
    let answered = std::iter::from_fn(|| waiting.next().now_or_never().flatten());
    let answered = answered.count();
    assert!(waiting.len() > 256, "{answered} of {LOGINS} are answered");
}
