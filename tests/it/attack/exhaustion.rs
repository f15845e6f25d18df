//! As many connections as there may be, and no file descriptor left.

use std::{fs, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    Ping, SendStream,
    client::{ResponseFuture, SendRequest},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::target::{Driver, LIMIT, OtherClient, Target, start};
use crate::harness::skip;

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_keep_no_client_out() {
    const BOUND: usize = 512;
    const SILENT: usize = 200;
    // This process needs one descriptor for each connection; the other end is in the target.
    if !allow_descriptors(BOUND + 1000) {
        return skip("fewer than 1512 file descriptors for a process");
    }
    // An unfinished call lasts until its client ends it.
    let target = Target::with(&[("REQUEST_TIMEOUT", "1h")]).await;
    let (addr, mut other) = (target.addr, OtherClient::register(target.addr).await);
    other.assert_served(addr, "before").await;
    let before = target.memory("VmRSS:");

    // Some never send the HTTP/2 preface. The server closes them after its preface time-out;
    // how many of them are left by then depends on the speed of the machine.
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(addr).await.expect("it accepts"));
    }
    // The other clients have a few connections. An unfinished call does not make a connection
    // busy.
    let (mut idle, mut unfinished) = (Vec::new(), Vec::new());
    for n in 0..BOUND - SILENT - 10 {
        let connection = open_idle(addr).await;
        let connection = connection.unwrap_or_else(|| panic!("connection {n} is refused"));
        unfinished.push(begin_call(&connection.0).await);
        idle.push(connection);
    }
    other.assert_served(addr, "while most idle").await;
    let grown = target.memory("VmRSS:").saturating_sub(before);
    eprintln!("{} idle connections: {grown} KiB more", idle.len());
    assert!(grown < 100 * 1024, "{grown} KiB more");

    // Beyond the limit every new connection is served, and those that have been idle the
    // longest are closed for them: first the silent ones, then the first idle one.
    while !idle[0].1.0.is_finished() {
        let connection = open_idle(addr).await;
        idle.push(connection.unwrap_or_else(|| panic!("connection {} is refused", idle.len())));
        assert!(idle.len() < 2 * BOUND, "none is closed");
    }
    other.assert_served(addr, "at the connection limit").await;
    target.process.wait_for("too many connections").await;

    drop((silent, idle, unfinished));
    other.assert_served(addr, "after").await;
    target.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_requests_keep_no_probe_out_of_the_admin_port() {
    let service = start(&[], |_| {}).await;
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let stream = TcpStream::connect(service.admin_addr).await;
        let mut stream = stream.expect("it accepts");
        let head = [&b"GET /livez HTTP/1.1\r\nx: "[..], &[b'x'; 8 * 1024]].concat();
        stream.write_all(&head).await.expect("it reads");
        unfinished.push(stream);
    }
    assert_eq!(service.probe("/livez").await.0, 200);
    // The oldest ones were closed.
    let end = timeout(LIMIT, unfinished[0].read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_it_waits_and_recovers() {
    let target = Target::on_sqlite().await;
    let (addr, mut other) = (target.addr, OtherClient::register(target.addr).await);
    let id = i32::try_from(target.process.pid()).expect("a process id");
    let pid = Pid::from_raw(id);
    // As many as it has open, and a few more.
    let open = fs::read_dir(format!("/proc/{id}/fd"));
    let Ok(open) = open.map(Iterator::count) else {
        return skip("no look at the descriptors of a process that is not dumpable: not root");
    };
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(open as u64 + 3),
        maximum: limit.maximum,
    };
    if prlimit(pid, Resource::Nofile, few).is_err() {
        return skip("no right to limit a process that is not dumpable: not root");
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(TcpStream::connect(addr).await.expect("the kernel accepts"));
    }
    // After some lines the log has sums.
    let failures = || {
        let log = target.process.log().into_iter();
        let lines = log.filter(|line| line.contains("cannot accept"));
        let counts = lines.map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            line["count"].as_u64().unwrap_or(1)
        });
        usize::try_from(counts.sum::<u64>()).expect("few")
    };
    // The service sleeps between two failures: a thread gives up its core by itself. In a busy
    // loop a thread does so only when its output blocks.
    let (slept, failed) = (target.voluntary_switches(), failures());
    while failures() < failed + 40 {
        sleep(Duration::from_millis(10)).await;
    }
    let failed = failures() - failed;
    let slept = target.voluntary_switches() - slept;
    eprintln!("{failed} failures, in which threads slept {slept} times");
    assert!(
        2 * slept >= failed,
        "it spins: slept {slept} times in {failed} failures"
    );
    // Clients that are connected are served.
    other.refreshes("without descriptors").await;

    prlimit(pid, Resource::Nofile, limit).expect("the old limit");
    other
        .assert_served(addr, "when there are descriptors again")
        .await;
    drop(waiting);
    target.assert_unharmed();
}

/// An idle connection, which only answers pings. `None` if the server refused it.
async fn open_idle(addr: SocketAddr) -> Option<(SendRequest<Bytes>, Driver)> {
    let stream = TcpStream::connect(addr).await.expect("the kernel accepts");
    let (requests, mut connection) = h2::client::handshake(stream).await.ok()?;
    let mut pings = connection.ping_pong().expect("taken once");
    let driver = Driver(tokio::spawn(connection));
    let answer = timeout(LIMIT, pings.ping(Ping::opaque())).await;
    answer
        .expect("an answer")
        .is_ok()
        .then_some((requests, driver))
}

/// Begins a call whose message is still to be sent.
async fn begin_call(requests: &SendRequest<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
    let path = "http://a/realchat.auth.v1.AuthService/GetSigningKey";
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut ready = requests.clone().ready().await.expect("it is open");
    let request = request.body(()).expect("a request");
    ready.send_request(request, false).expect("it is sent")
}

/// Raises the limit of this process. `false` if the system allows fewer.
pub fn allow_descriptors(count: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).is_ok()
        && limit.maximum.is_none_or(|most| most >= count as u64)
}
