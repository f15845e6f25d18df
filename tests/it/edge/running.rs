//! Health, metrics, limits and the end of the edge.

use std::time::Duration;

use auth_service::{edge::proto::HttpRequest, model::SessionId};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    Envoy, FakeService, Http, Sidecar, Tokens, client::header, session, sidecar::SHORT, tokens::TTL,
};
use crate::harness::{RawConnection, SOON, START, connect, eventually, framed};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_is_counted() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let mut http = Http::open(edge.addr).await;
    let check = async |http: &mut Http, token: &str| {
        http.check(&[&format!("Bearer {token}")]).await;
    };
    let outcomes = [
        "ok",
        "missing",
        "invalid",
        "expired",
        "revoked",
        "unavailable",
    ];
    let name = |outcome: &str| format!("auth_edge_checks_total{{outcome=\"{outcome}\"}}");
    for outcome in outcomes {
        assert_eq!(edge.metric(&name(outcome)).await, 0, "{outcome}");
    }
    assert_eq!(
        edge.metric("auth_edge_last_message_timestamp_seconds")
            .await,
        0
    );
    check(&mut http, "x").await;
    let call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    http.check(&[]).await;
    check(&mut http, "x").await;
    check(&mut http, &tokens.token()).await;
    let old = tokens.issue(START - TTL, tokens.session, &[]);
    check(&mut http, &old).await;
    let other = SessionId::new(START);
    call.send(session(other)).await;
    eventually(async || edge.metric("auth_edge_revocations").await == 1).await;
    check(&mut http, &tokens.issue(START, other, &[])).await;
    for outcome in outcomes {
        assert_eq!(edge.metric(&name(outcome)).await, 1, "{outcome}");
    }
    let started = u64::try_from(START.as_secs()).unwrap();
    assert_eq!(
        edge.metric("auth_edge_last_message_timestamp_seconds")
            .await,
        started
    );
    assert_eq!(edge.metric("auth_edge_stale").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_by_grpc_follows_readiness() {
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let channel = connect(edge.addr).await;
    let health = async |name: &str| {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        answer
            .map(|answer| answer.into_inner().status())
            .map_err(|status| status.code())
    };
    let names = ["", "envoy.service.auth.v3.Authorization"];
    for name in names {
        assert_eq!(health(name).await, Ok(ServingStatus::NotServing));
    }
    let _call = service.follow(&Tokens::new()).await;
    edge.wait_until_ready().await;
    for name in names {
        assert_eq!(health(name).await, Ok(ServingStatus::Serving));
    }
    assert_eq!(health("unknown").await, Err(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn liveness_needs_no_service() {
    let edge = Sidecar::start(&["127.0.0.1:1".parse().unwrap()], &[]);
    assert_eq!(edge.probe("/livez").await, (200, "alive\n".to_owned()));
    let (status, why) = edge.probe("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready: the revocations are not known yet\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_end_in_order_when_the_edge_stops() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    let (addr, bearer) = (edge.addr, format!("Bearer {}", tokens.token()));
    let mut idle = Http::open(addr).await;
    assert_eq!(idle.check(&[&bearer]).await.status, 200);
    // A request of which a part is here, and a call whose message is not complete.
    let mut begun = Http::open(addr).await;
    begun.send("GET / HTTP/1.1\r\nhost: x\r\n").await;
    let connection = RawConnection::open(addr).await;
    let mut requests = connection.requests.clone().ready().await.unwrap();
    let request = grpc(CHECK);
    let (response, mut message) = requests.send_request(request, false).unwrap();
    eventually(async || edge.probe("/readyz").await.0 == 200).await;
    tokio::time::sleep(SHORT).await;

    let stopped_at = Instant::now();
    edge.begin_stop();
    assert!(
        idle.answer().await.is_none(),
        "an idle connection is closed"
    );
    let (ended, ()) = tokio::join!(edge.stop(), async {
        begun
            .send(&format!("authorization: {bearer}\r\n\r\n"))
            .await;
        let answer = begun.answer().await;
        // hyper may also close a connection before the head of its request is complete.
        if let Some(answer) = answer {
            assert_eq!(answer.status, 200);
            assert!(
                begun.answer().await.is_none(),
                "it is closed after the answer"
            );
        }
        message.send_data(framed(b"").into(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    ended.unwrap();
    assert!(stopped_at.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_cannot_delay_the_end() {
    let (mut sidecar, clock) = Sidecar::build(&["--auth-url", "http://127.0.0.1:1"]);
    sidecar.limits.drain = SHORT;
    let edge = Sidecar::run((sidecar, clock));
    let connection = RawConnection::open(edge.addr).await;
    let mut requests = connection.requests.clone().ready().await.unwrap();
    let (_response, _message) = requests.send_request(grpc(CHECK), false).unwrap();
    let mut http = Http::open(edge.addr).await;
    http.send("GET / HTTP/1.1\r\n").await;
    timeout(Duration::from_secs(3), edge.stop())
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let (mut sidecar, clock) = Sidecar::build(&["--auth-url", "http://127.0.0.1:1"]);
    sidecar.limits.idle = SHORT;
    sidecar.limits.first_request = SHORT;
    sidecar.limits.drain = SHORT;
    let edge = Sidecar::run((sidecar, clock));
    let mut silent = Http::open(edge.addr).await;
    let mut slow = Http::open(edge.addr).await;
    slow.send("GET / HTTP/1.1\r\nhost").await;
    let mut idle = Http::open(edge.addr).await;
    assert_eq!(idle.check(&[]).await.status, 503);
    let mut half = Http::open(edge.addr).await;
    half.send("PRI * HTTP/2.0\r\n").await;
    for (name, http) in [
        ("silent", &mut silent),
        ("idle", &mut idle),
        ("half", &mut half),
    ] {
        assert!(
            timeout(SOON, http.answer()).await.expect(name).is_none(),
            "{name}"
        );
    }
    // It may be told so.
    timeout(SOON, async { while slow.answer().await.is_some() {} })
        .await
        .expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_connections_the_longest_idle_one_is_closed() {
    let (mut sidecar, clock) = Sidecar::build(&["--auth-url", "http://127.0.0.1:1"]);
    sidecar.limits.connections = 2;
    let edge = Sidecar::run((sidecar, clock));
    let mut first = Http::open(edge.addr).await;
    first.check(&[]).await;
    let mut second = Http::open(edge.addr).await;
    second.check(&[]).await;
    let mut third = Http::open(edge.addr).await;
    assert_eq!(third.check(&[]).await.status, 503);
    assert!(first.answer().await.is_none(), "it was closed");
    assert_eq!(second.check(&[]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_messages_have_a_limit() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    let bearer = format!("Bearer {}", tokens.token());
    let cookie = |length| "c".repeat(length);
    let status_of = async |length| {
        let mut http = Http::open(edge.addr).await;
        let cookie = cookie(length);
        let head = format!("authorization: {bearer}\r\ncookie: {cookie}\r\n\r\n");
        http.send(&format!("GET / HTTP/1.1\r\nhost: x\r\n{head}"))
            .await;
        http.answer().await.map(|answer| answer.status)
    };
    assert_eq!(status_of(60 * 1024).await, Some(200));
    // The end of the connection may reach the client before the answer does.
    assert!(
        status_of(200 * 1024)
            .await
            .is_none_or(|status| status == 431)
    );
    let envoy = Envoy::connect(edge.addr).await;
    let ask = async |length| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("cookie", &cookie(length)),
        ];
        let headers = headers.into_iter().map(header).collect();
        let answer = envoy
            .ask(HttpRequest {
                headers,
                header_map: None,
            })
            .await;
        answer
            .map(|answer| answer.status.unwrap().code)
            .map_err(|status| status.code())
    };
    assert_eq!(ask(200 * 1024).await, Ok(0));
    assert_eq!(ask(300 * 1024).await, Err(Code::ResourceExhausted));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_complete_message_are_refused() {
    let edge = Sidecar::start(&["127.0.0.1:1".parse().unwrap()], &[]);
    let connection = RawConnection::open(edge.addr).await;
    let compressed = [&[1, 0, 0, 0, 1], &b"x"[..]].concat();
    let wrong_length = [&[0, 0, 0, 0, 9], &b"x"[..]].concat();
    for (body, code) in [
        (Vec::new(), Code::InvalidArgument),
        (b"\0\0".to_vec(), Code::InvalidArgument),
        (wrong_length, Code::InvalidArgument),
        (framed(b"\xff"), Code::InvalidArgument),
        (compressed, Code::Unimplemented),
    ] {
        let answer = connection.call(CHECK, &[], body.clone()).await.unwrap();
        // 200 would admit a request of forward-auth that looks like a call.
        assert_eq!(answer.http_status, 400);
        assert_eq!(answer.status().unwrap().code(), code, "{body:?}");
    }
    let health = connection.call("/grpc.health.v1.Health/Check", &[], Vec::new());
    assert_eq!(health.await.unwrap().http_status, 400);
    let two = [framed(b""), framed(b"")].concat();
    let answer = connection.call(CHECK, &[], two).await.unwrap();
    assert_eq!(answer.status().unwrap().code(), Code::InvalidArgument);
    let counted = edge.metric(r#"auth_edge_checks_total{outcome="incomplete"}"#);
    assert_eq!(counted.await, 6);
}

fn grpc(path: &str) -> http::Request<()> {
    let request = http::Request::post(format!("http://edge{path}"));
    let request = request.header("te", "trailers");
    request
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unfinished_messages_of_one_connection_leave_room_for_others() {
    const MESSAGE: usize = 250 * 1024;
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    let greedy = RawConnection::open(edge.addr).await;
    let mut open = Vec::new();
    let mut responses = FuturesUnordered::new();
    for _ in 0..9 {
        let mut requests = greedy.requests.clone().ready().await.unwrap();
        let (response, mut message) = requests.send_request(grpc(CHECK), false).unwrap();
        message.send_data(vec![0; MESSAGE].into(), false).unwrap();
        responses.push(response);
        open.push(message);
    }
    let refused = responses.next().await.unwrap().unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(
        refused.headers()["grpc-status"],
        i32::from(Code::ResourceExhausted).to_string()
    );
    assert!(
        responses.next().now_or_never().is_none(),
        "only one was too much"
    );
    assert_eq!(edge.status(&tokens.token()).await, 200);
}
