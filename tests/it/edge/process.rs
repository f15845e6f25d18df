//! The edge as a process: its log, its signals, its exit codes and its memory.

use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Status;

use super::{
    Envoy, FakeService, Http, Tokens, begin, end,
    fake::{keys, numbered_session},
    heartbeat,
};
use crate::harness::{INTERNAL_TOKEN, Process, RawConnection, eventually, framed, probe};

const FREE_PORTS: [(&str, &str); 2] = [("EDGE_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0")];

fn start(url: &str, more: &[(&str, &str)]) -> Process {
    let base = [("AUTH_URL", url), ("AUTH_TOKEN", INTERNAL_TOKEN)];
    let variables = [&base[..], &FREE_PORTS, more].concat();
    Process::start(&std::env::temp_dir(), &["edge"], &variables)
}

fn lines_with(process: &Process, text: &str) -> usize {
    process
        .log()
        .iter()
        .filter(|line| line.contains(text))
        .count()
}

#[tokio::test]
async fn wrong_configuration_ends_with_64_and_one_line_for_each_problem() {
    let folder = TempDir::new().unwrap();
    let ended = Process::run(folder.path(), &["edge"], &[]).await;
    assert_eq!(ended.code, Some(64));
    assert_eq!(
        ended.stderr,
        "AUTH_URL: is required: where the service is\n"
    );
    let variables = [
        ("AUTH_URL", "http://user:needle@h:1"),
        ("EDGE_WHEN_STALE", "never"),
    ];
    let ended = Process::run(folder.path(), &["edge"], &variables).await;
    assert_eq!(ended.code, Some(64));
    assert_eq!(
        ended.stderr,
        "EDGE_WHEN_STALE: must be one of serve, refuse\n\
         AUTH_URL: entry 1 must be http://host:port or https://host:port, without a path\n"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is made"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = other.local_addr().unwrap().to_string();
    for variable in ["EDGE_ADDR", "ADMIN_ADDR"] {
        let mut process = start("http://127.0.0.1:1", &[(variable, &addr)]);
        assert_eq!(process.exit_code().await, Some(1));
        process
            .wait_for(&format!("{variable}: cannot listen on {addr}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_in_order_and_a_second_one_at_once() {
    for signal in ["TERM", "INT"] {
        let mut process = start("http://127.0.0.1:1", &[]);
        process.addr("edge").await;
        process.signal(signal);
        assert_eq!(process.exit_code().await, Some(0), "{signal}");
    }
    let mut process = start("http://127.0.0.1:1", &[]);
    let addr = process.addr("edge").await;
    let connection = RawConnection::open(addr).await;
    let mut requests = connection.requests.clone().ready().await.unwrap();
    let request = http::Request::post("http://edge/envoy.service.auth.v3.Authorization/Check")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let (_response, _message) = requests
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    // Its answer shows that the call before it has begun.
    let check = "/envoy.service.auth.v3.Authorization/Check";
    connection.call(check, &[], framed(b"")).await.unwrap();
    process.signal("TERM");
    process.wait_for("finishing what runs").await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_where_it_listens_what_it_follows_and_when_it_is_stale_without_a_secret() {
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let url = format!("http://{}", service.addr);
    let more = [("LOG", "trace"), ("EDGE_MAX_STALENESS", "5s")];
    let process = start(&url, &more);
    assert!(process.wait_for("\"listening\"").await.contains(&url));
    service
        .call()
        .await
        .fail(Status::permission_denied("who are you"))
        .await;
    process.wait_for("THE SERVICE REFUSES THIS EDGE").await;
    drop(process);

    let process = start(&url, &more);
    let (addr, admin) = (process.addr("edge").await, process.addr("admin").await);
    let call = service.follow(&tokens).await;
    process.wait_for("ready: all revocations are known").await;
    process.wait_for(&format!("\"url\":\"{url}\"")).await;
    let bearer = format!("Bearer {}", tokens.token());
    for value in [
        bearer.as_str(),
        "Basic needle-needle",
        "Bearer needle.needle",
    ] {
        Http::open(addr).await.check(&[value]).await;
        Envoy::connect(addr).await.check(&[value]).await;
    }
    process
        .wait_for("STALE: new revocations are unknown, and their tokens are accepted")
        .await;
    call.send(heartbeat("cursor-needle")).await;
    process.wait_for("all revocations are known again").await;
    eventually(async || probe(admin, "/readyz").await.0 == 200).await;
    let log = process.log().concat();
    let (_, claims) = bearer.split_once('.').unwrap();
    for secret in ["needle", INTERNAL_TOKEN, claims] {
        assert!(!log.contains(secret), "{secret}");
    }
    assert_eq!(lines_with(&process, "STALE"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_logged_once() {
    let service = FakeService::start().await;
    let mut process = start(&format!("http://{}", service.addr), &[]);
    for _ in 0..2 {
        service
            .call()
            .await
            .fail(Status::permission_denied("no"))
            .await;
    }
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(lines_with(&process, "THE SERVICE REFUSES THIS EDGE"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_revocations_take_less_than_200_mb() {
    const REVOCATIONS: u32 = 1_000_000;
    let tokens = Tokens::new();
    let service = FakeService::start().await;
    let process = start(&format!("http://{}", service.addr), &[]);
    let admin = process.addr("admin").await;
    let call = service.call().await;
    call.send(keys(&tokens)).await;
    call.send(begin()).await;
    for number in 0..REVOCATIONS {
        call.send(numbered_session(number)).await;
    }
    call.send(end("cursor")).await;
    eventually(async || probe(admin, "/readyz").await.0 == 200).await;
    let (_, metrics) = probe(admin, "/metrics").await;
    assert!(
        metrics.contains("auth_edge_revocations 1000000\n"),
        "{metrics}"
    );
    let memory = process.resident();
    assert!(memory < 200_000_000, "{memory} bytes");
}
