//! What gateways are told about a request.

use std::time::Duration;

use auth_service::{edge::proto::HttpRequest, model::SessionId};

use super::{
    Envoy, FakeService, Http, Sidecar, Tokens, Verdict, client::header, client::verdict, session,
    tokens::TTL, user,
};
use crate::harness::{RawConnection, START, eventually, framed};

const BEARER: &str = "Bearer";
const INVALID: &str =
    r#"Bearer error="invalid_token", error_description="The access token is not valid""#;
const EXPIRED: &str =
    r#"Bearer error="invalid_token", error_description="The access token has expired""#;
const REVOKED: &str = r#"Bearer error="invalid_token", error_description="The session has ended""#;

fn unauthorized(challenge: &str) -> Verdict {
    Verdict {
        status: 401,
        headers: vec![("www-authenticate".to_owned(), challenge.to_owned())],
    }
}

fn unavailable() -> Verdict {
    Verdict {
        status: 503,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
    }
}

/// An edge that is ready and its service.
async fn ready(tokens: &Tokens) -> (Sidecar, FakeService, super::Call) {
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    let call = service.follow(tokens).await;
    edge.wait_until_ready().await;
    (edge, service, call)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_brings_the_identity_of_its_bearer() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let accepted = edge.check_token(&tokens.token()).await;
    assert_eq!(
        (accepted.status, &accepted.headers),
        (200, &tokens.identity())
    );
    let with_roles = tokens.issue(START, tokens.session, &["admin", "chat:moderator"]);
    let accepted = edge.check_token(&with_roles).await;
    let mut expected = tokens.identity();
    expected.push(("x-user-roles".to_owned(), "admin,chat:moderator".to_owned()));
    assert_eq!((accepted.status, accepted.headers), (200, expected));
    let token = tokens.token();
    for value in [format!("bearer {token}"), format!("BEARER  {token} ")] {
        assert_eq!(edge.check(&[&value]).await.status, 200, "{value:.8}");
    }
    let raw = Envoy::connect(edge.addr)
        .await
        .check_raw(&format!("Bearer {token}"))
        .await;
    assert_eq!((raw.status, raw.headers), (200, tokens.identity()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_bearer_token_is_challenged() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    assert_eq!(edge.check(&[]).await, unauthorized(BEARER));
    let token = tokens.token();
    for value in [
        "",
        "Bearer",
        "Basic YTpi",
        token.as_str(),
        &format!("Token {token}"),
    ] {
        assert_eq!(
            edge.check(&[value]).await,
            unauthorized(BEARER),
            "{value:.8}"
        );
    }
    let nothing = Envoy::connect(edge.addr)
        .await
        .send(<_>::default())
        .await
        .unwrap();
    assert_eq!(verdict(nothing), unauthorized(BEARER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_service_did_not_issue_is_refused() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let token = tokens.token();
    let other_key = Tokens::signed_with("another-secret-of-at-least-32-bytes").token();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let unsigned = format!("{signed}.");
    let future = tokens.issue(START + Duration::from_mins(2), tokens.session, &[]);
    let padded = format!("{token}=");
    for token in [
        other_key.as_str(),
        &unsigned,
        &future,
        &padded,
        "a.b.c",
        "x",
        "ümlaut",
    ] {
        assert_eq!(
            edge.check_token(token).await,
            unauthorized(INVALID),
            "{token:.8}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_are_refused_even_if_both_are_good() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let good = format!("Bearer {}", tokens.token());
    let two = edge.check(&[&good, &good]).await;
    assert_eq!(two, unauthorized(INVALID));
    // Envoy joins them.
    let joined = edge.check(&[&format!("{good},{good}")]).await;
    assert_eq!(joined, unauthorized(INVALID));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_at_its_exp() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let token = tokens.token();
    edge.clock.set(START + TTL - Duration::from_millis(1));
    assert_eq!(edge.status(&token).await, 200);
    edge.clock.set(START + TTL);
    assert_eq!(edge.check_token(&token).await, unauthorized(EXPIRED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_ended_session_is_refused_and_those_of_other_sessions_are_not() {
    let tokens = Tokens::new();
    let (edge, _service, call) = ready(&tokens).await;
    let other = tokens.issue(START, SessionId::new(START), &[]);
    call.send(session(tokens.session)).await;
    edge.wait_for(&tokens.token(), 401).await;
    assert_eq!(
        edge.check_token(&tokens.token()).await,
        unauthorized(REVOKED)
    );
    assert_eq!(edge.status(&other).await, 200);
    assert_eq!(edge.metric("auth_edge_revocations").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tokens_of_a_user_are_refused_but_those_of_sessions_that_began_after_the_act() {
    let tokens = Tokens::new();
    let (edge, _service, call) = ready(&tokens).await;
    let act = START + Duration::from_millis(2_500);
    edge.clock.set(act + Duration::from_secs(1));
    let started = |time| SessionId::new(time);
    let at = |millis| START + Duration::from_millis(millis);
    // The `iat` of all but the last is in or before the second of the act.
    let [old, same_second, by_the_act, after, later] = [
        tokens.issue(at(1_999), started(at(1_999)), &[]),
        tokens.issue(at(2_499), started(at(2_499)), &[]),
        tokens.issue(act, started(act), &[]),
        tokens.issue(at(2_501), started(at(2_501)), &[]),
        tokens.issue(at(3_000), started(at(0)), &[]),
    ];
    call.send(user(tokens.user, act)).await;
    edge.wait_for(&old, 401).await;
    for (name, token, status) in [
        ("old", old, 401),
        ("of the same second", same_second, 401),
        ("by the act", by_the_act, 200),
        ("after", after, 200),
        ("later", later, 200),
    ] {
        assert_eq!(edge.status(&token).await, status, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_before_the_snapshot_is_complete() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let edge = Sidecar::start(&[service.addr], &[]);
    assert_eq!(edge.check_token(&tokens.token()).await, unavailable());
    assert_eq!(edge.check(&[]).await, unavailable());
    let call = service.call().await;
    call.send(super::fake::keys(&tokens)).await;
    call.send(super::begin()).await;
    call.send(session(tokens.session)).await;
    // It was heard, and does not complete the snapshot.
    eventually(async || edge.metric("auth_edge_revocations").await == 1).await;
    call.send(super::heartbeat("cursor 1")).await;
    assert_eq!(edge.check_token(&tokens.token()).await, unavailable());
    assert_eq!(edge.probe("/readyz").await.0, 503);
    call.send(super::end("cursor 2")).await;
    edge.wait_until_ready().await;
    assert_eq!(
        edge.check_token(&tokens.token()).await,
        unauthorized(REVOKED)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_path_is_answered_and_no_body_is_read() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let token = tokens.token();
    let mut http = Http::open(edge.addr).await;
    for (method, path) in [
        ("GET", "/"),
        ("HEAD", "/a/b?c=d"),
        ("PROPFIND", "/livez"),
        ("OPTIONS", "*"),
        ("DELETE", "http://example.com/absolute"),
        ("POST", "/envoy.service.auth.v3.Authorization/Check"),
    ] {
        http.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        assert_eq!(http.answer().await.unwrap().status, 200, "{method} {path}");
    }
    // A body that does not come does not delay the answer.
    http.send(&format!("POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 1000000\r\n\r\n")).await;
    assert_eq!(http.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let request =
        |token: &str| format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let (good, bad) = (request(&tokens.token()), request("x"));
    let mut http = Http::open(edge.addr).await;
    http.send(&[good.as_str(), &bad, &good, &bad].concat())
        .await;
    for status in [200, 401, 200, 401] {
        assert_eq!(http.answer().await.unwrap().status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_claims_about_itself_is_ignored() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let token = tokens.token();
    let mut http = Http::open(edge.addr).await;
    let forged = "x-user-id: root\r\nx-session-id: root\r\nx-user-roles: admin\r\n";
    http.send(&format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{forged}authorization: Bearer {token}\r\n\r\n"
    ))
    .await;
    assert_eq!(http.answer().await.unwrap().headers, tokens.identity());
    http.send(&format!("GET / HTTP/1.1\r\nhost: x\r\n{forged}\r\n"))
        .await;
    assert_eq!(http.answer().await.unwrap(), unauthorized(BEARER));
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_over_http_2_is_no_call_of_envoy_whatever_its_path() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let connection = RawConnection::open(edge.addr).await;
    let check = "/envoy.service.auth.v3.Authorization/Check";
    // A client chose the path and the content type, and sent what Envoy sends.
    let request = |path: &str| {
        let request = http::Request::post(format!("http://edge{path}"));
        request
            .header("content-type", "application/grpc")
            .body(())
            .unwrap()
    };
    for path in [check, "/grpc.health.v1.Health/Check", "/any"] {
        let answer = connection
            .send(request(path), framed(b"").into())
            .await
            .unwrap();
        assert_eq!(answer.http_status, 401, "{path}");
    }
    let mut good = request(check);
    let bearer = format!("Bearer {}", tokens.token());
    good.headers_mut()
        .insert("authorization", bearer.parse().unwrap());
    let answer = connection.send(good, framed(b"").into()).await.unwrap();
    assert_eq!(answer.http_status, 200);
    assert_eq!(answer.headers["x-user-id"], tokens.user.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_other_names_are_no_authorization() {
    let tokens = Tokens::new();
    let (edge, _service, _call) = ready(&tokens).await;
    let bearer = format!("Bearer {}", tokens.token());
    let envoy = Envoy::connect(edge.addr).await;
    let ask = async |name: &str| {
        let headers = vec![header((name, &bearer))];
        verdict(
            envoy
                .ask(HttpRequest {
                    headers,
                    header_map: None,
                })
                .await
                .unwrap(),
        )
        .status
    };
    assert_eq!(ask("authorization").await, 200);
    assert_eq!(ask("Authorization").await, 200);
    for name in [
        "proxy-authorization",
        "x-authorization",
        "authorization2",
        "",
    ] {
        assert_eq!(ask(name).await, 401, "{name}");
    }
}
