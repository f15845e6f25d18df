//! Clients that mean harm: bytes that are no message, HTTP/2 that is abused, connections
//! without end. The process does not panic, does not grow without bound, and serves
//! everybody else meanwhile.

use std::{fs, net::SocketAddr, pin::Pin, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use bytes::Bytes;
use h2::{Ping, Reason, client::SendRequest};
use http::{Method, Request as HttpRequest, Version};
use prost::Message as _;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Backend, Chance, Frames, INTERNAL_TOKEN, JWT_SECRET, PREFACE, Process, RawConnection,
    TestDatabase, both, cancelled_call, connect, frame, framed, login, refresh, register, skip,
    soak,
};

const METHODS: [&str; 5] = ["Register", "Login", "Refresh", "Logout", "GetSigningKey"];
const LIMIT: Duration = Duration::from_mins(1);

/// The service as a process of its own: its log, its memory, its descriptors.
struct Victim {
    process: Process,
    addr: SocketAddr,
    _folder: TempDir,
    _database: TestDatabase,
}

impl Victim {
    async fn start(database: TestDatabase) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (url, tokens) = (database.url(), format!("gateway:{INTERNAL_TOKEN}"));
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("GRPC_ADDR", "127.0.0.1:0"),
            ("ADMIN_ADDR", "127.0.0.1:0"),
            ("JWT_SECRET", JWT_SECRET),
            ("INTERNAL_TOKENS", &tokens),
            ("BCRYPT_COST", "10"),
            ("LOG", "debug"),
            ("LOG_FORMAT", "json"),
        ];
        let process = Process::start(folder.path(), &[], &variables);
        let addr = process.grpc_addr().await;
        Self {
            process,
            addr,
            _folder: folder,
            _database: database,
        }
    }

    async fn on_sqlite() -> Self {
        let database = TestDatabase::create(Backend::Sqlite).await;
        Self::start(database.expect("SQLite is always there")).await
    }

    /// A number of `/proc/<pid>/status`, in KiB.
    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with(what));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a number").parse().expect("a number")
    }

    /// How often its threads had nothing to do and went to sleep.
    fn voluntary_switches(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.pid()));
        let switches = threads.expect("it runs").map(|thread| {
            let status = thread.expect("a thread").path().join("status");
            let status = fs::read_to_string(status).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.map_or(0, |number| number.trim().parse().expect("a number"))
        });
        switches.sum()
    }

    fn assert_unharmed(&self) {
        let log = self.process.log();
        let harm = log
            .iter()
            .filter(|line| line.contains("panicked") || line.contains("\"ERROR\""));
        let harm: Vec<_> = harm.collect();
        assert!(harm.is_empty(), "{harm:#?}");
    }
}

/// Somebody who only wants to be served, on a connection that was open before.
struct Guest {
    client: AuthServiceClient<tonic::transport::Channel>,
    token: String,
}

impl Guest {
    async fn arrive(addr: SocketAddr) -> Self {
        let mut client = AuthServiceClient::new(connect(addr).await);
        let request = proto::RegisterRequest {
            start_session: true,
            ..register("guest@example.com")
        };
        let answer = client.register(request).await.expect("registers");
        let tokens = answer.into_inner().tokens.expect("tokens");
        Self {
            client,
            token: tokens.refresh_token,
        }
    }

    /// Refreshes on the old connection, and logs in on a new one.
    async fn is_served(&mut self, addr: SocketAddr, meanwhile: &str) {
        let served = async {
            for _ in 0..5 {
                self.refreshes(meanwhile).await;
            }
            let client = AuthServiceClient::new(connect(addr).await);
            let answer = patiently(async || client.clone().login(login("guest@example.com")).await);
            answer
                .await
                .unwrap_or_else(|status| panic!("{meanwhile}: {status}"));
        };
        let served = timeout(LIMIT, served).await;
        assert!(served.is_ok(), "{meanwhile}: nobody is served");
    }

    async fn refreshes(&mut self, meanwhile: &str) {
        let answer = patiently(async || self.client.clone().refresh(refresh(&self.token)).await);
        let answer = answer.await;
        let tokens = answer.unwrap_or_else(|status| panic!("{meanwhile}: {status}"));
        self.token = tokens.into_inner().tokens.expect("tokens").refresh_token;
    }
}

/// Calls again as long as the answer is to come later: on a machine that is busy with other
/// things, the database or the hasher may not have been in time.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    loop {
        match call().await {
            Err(status) if status.get_details_retry_info().is_some() => {
                sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

both! {
    async fn no_message_brings_it_down(database: TestDatabase) {
        let victim = Victim::start(database).await;
        let raw = RawConnection::open(victim.addr).await;
        let mut chance = Chance::new();
        for _ in 0..soak(150, 10_000) {
            for method in METHODS {
                let path = format!("/realchat.auth.v1.AuthService/{method}");
                let body = any_body(&mut chance);
                let answer = raw.call(&path, &[], body.clone()).await.expect("an answer");
                assert_eq!(answer.http_status, 200);
                let status = answer.status().expect("a status");
                match status.code() {
                    // Or the flag says compressed, which nobody offered: tonic's own answer.
                    Code::Ok | Code::Unimplemented => continue,
                    code => assert!(
                        matches!(code, Code::InvalidArgument | Code::AlreadyExists | Code::Unauthenticated
                            | Code::PermissionDenied | Code::ResourceExhausted),
                        "{method}: {status:?} to {}", body.escape_ascii()
                    ),
                }
                let info = status.get_details_error_info();
                let info = info.unwrap_or_else(|| panic!("{method}: {status:?} without ErrorInfo"));
                assert_eq!(info.domain, "auth.realchat");
            }
            for path in [
                "/grpc.health.v1.Health/Check",
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ] {
                // Their answers are not ours; that there are some is.
                raw.call(path, &[], any_body(&mut chance)).await.expect("an answer");
            }
            let watch = raw.call_without_end("/grpc.health.v1.Health/Watch", any_body(&mut chance));
            watch.await.expect("an answer");
        }
        Guest::arrive(victim.addr).await.is_served(victim.addr, "after random bytes").await;
        victim.assert_unharmed();
    }

    async fn what_cannot_be_read_is_the_callers_fault(database: TestDatabase) {
        let victim = Victim::start(database).await;
        let raw = RawConnection::open(victim.addr).await;
        let whole = framed(&login("ana@example.com").encode_to_vec());
        let too_large = framed(&login(&"x".repeat(70_000)).encode_to_vec());
        let mut cut = whole.clone();
        cut.pop();
        for (body, text) in [
            (framed(&[0xff; 10]), "request: cannot be read"),
            (framed(b"\x0a\x02\xff\xff"), "request: cannot be read"),
            (cut, "request: cannot be read"),
            (whole[..3].to_vec(), "request: cannot be read"),
            (Vec::new(), "request: cannot be read"),
            ([&[7], &whole[1..]].concat(), "request: cannot be read"),
            (too_large, "request: must have at most 65536 bytes"),
        ] {
            // GetSigningKey has an empty message, which any fields are.
            for method in &METHODS[..4] {
                let path = format!("/realchat.auth.v1.AuthService/{method}");
                let answer = raw.call(&path, &[], body.clone()).await.expect("an answer");
                let status = answer.status().expect("a status");
                let reason = status.get_details_error_info().expect("ErrorInfo").reason;
                assert_eq!((status.code(), reason.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
                assert_eq!(status.message(), text);
            }
        }
        victim.assert_unharmed();
    }
}

/// Random bytes, or a message with a few of them wrong, framed more or less well.
fn any_body(chance: &mut Chance) -> Vec<u8> {
    let length = chance.below(300);
    let mut message = match chance.below(4) {
        0 => chance.bytes(length),
        1 => login("ana@example.com").encode_to_vec(),
        2 => refresh(&format!("rcr_{}", "A".repeat(70))).encode_to_vec(),
        // A tag with a length, and whatever follows.
        _ => [
            vec![0x0a | chance.bytes(1)[0] & 0x38, chance.bytes(1)[0] & 0x7f],
            chance.bytes(length),
        ]
        .concat(),
    };
    for _ in 0..chance.below(4) {
        if !message.is_empty() {
            let at = chance.below(message.len());
            message[at] ^= 1 << chance.below(8);
        }
    }
    let mut body = framed(&message);
    match chance.below(12) {
        0 => body[0] = chance.bytes(1)[0],
        1 => body[1 + chance.below(4)] ^= 1 << chance.below(8),
        2 => body.truncate(chance.below(body.len())),
        3 => body.extend(chance.bytes(20)),
        4 => body.clear(),
        _ => {}
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_kind_get_an_answer() {
    let victim = Victim::on_sqlite().await;
    let raw = RawConnection::open(victim.addr).await;
    let body = framed(&login("ana@example.com").encode_to_vec());
    let path = "/realchat.auth.v1.AuthService/Login";

    // No time left: DEADLINE_EXCEEDED in our words, unless it was answered at once.
    for value in ["0n", "0S", "1n", "1u", "00000000H"] {
        for method in METHODS {
            let path = format!("/realchat.auth.v1.AuthService/{method}");
            let late = [("grpc-timeout", value)];
            let answer = raw.call(&path, &late, body.clone()).await;
            let status = answer.expect("an answer").status().expect("a status");
            assert!(
                status.get_details_error_info().is_some(),
                "{method}: {status:?}"
            );
            if method == "Login" {
                // Or no thread will be free in time.
                let expected = [Code::DeadlineExceeded, Code::ResourceExhausted];
                assert!(expected.contains(&status.code()), "{value}: {status:?}");
            }
        }
    }
    let long = "x".repeat(8000);
    for header in [
        ("grpc-timeout", "junk"),
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", ""),
        ("content-type", "text/html"),
        ("content-type", "application/json"),
        ("content-type", ""),
        ("grpc-encoding", "gzip"),
        ("grpc-encoding", "no-such"),
        ("grpc-accept-encoding", "no-such"),
        ("te", "junk"),
        ("authorization", ""),
        ("authorization", "Bearer"),
        ("authorization", &long),
        ("traceparent", &long),
        ("x-long", &long),
        ("x-bin", "!"),
        ("grpc-status-details-bin", "!!!"),
        ("grpc-status", "0"),
        ("content-length", "3"),
    ] {
        for method in METHODS {
            let path = format!("/realchat.auth.v1.AuthService/{method}");
            // A stream error (content-length) is an answer too.
            let answer = timeout(LIMIT, raw.call(&path, &[header], body.clone())).await;
            answer
                .unwrap_or_else(|_| panic!("{header:?}: no answer"))
                .ok();
        }
    }
    for method in [Method::GET, Method::PUT, Method::CONNECT, Method::OPTIONS] {
        let request = HttpRequest::builder()
            .method(method)
            .uri(format!("http://a{path}"));
        let request = request
            .version(Version::HTTP_2)
            .body(())
            .expect("a request");
        let answer = timeout(LIMIT, raw.send(request, Bytes::new())).await;
        answer.expect("an answer").ok();
    }
    for path in [
        "/",
        "//",
        "/x",
        "/realchat.auth.v1.AuthService/",
        "/%00",
        "/../..",
        &long,
    ] {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        raw.call(&path, &[], body.clone()).await.expect("an answer");
    }
    // Headers above the limit are refused, and the connection goes on.
    let much = "x".repeat(20_000);
    if let Ok(answer) = raw.call(path, &[("x-much", &much)], body.clone()).await {
        assert_eq!(answer.http_status, 431);
    }
    // No HTTP/2 at all.
    for junk in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0".to_vec(),
        vec![0; 1000],
    ] {
        let mut stream = TcpStream::connect(victim.addr).await.expect("it accepts");
        stream.write_all(&junk).await.expect("it reads");
        let mut rest = Vec::new();
        let closed = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {}", junk.escape_ascii());
    }
    Guest::arrive(victim.addr)
        .await
        .is_served(victim.addr, "after odd headers")
        .await;
    victim.assert_unharmed();
}

/// An attack goes on until what it returns is dropped.
type Attack = Pin<Box<dyn Future<Output = Vec<Box<dyn Send>>> + Send>>;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_of_http_2_harms_nobody_else() {
    let victim = Victim::on_sqlite().await;
    let (addr, mut guest) = (victim.addr, Guest::arrive(victim.addr).await);
    guest.is_served(addr, "before").await;
    let before = victim.memory("VmRSS:");
    let size = soak(1, 10);
    let attacks: [(&str, Attack); 10] = [
        ("rapid reset", Box::pin(rapid_reset(addr, 10 * size))),
        (
            "CONTINUATION without end",
            Box::pin(endless_headers(addr, 20_000 * size)),
        ),
        (
            "a header table bomb",
            Box::pin(header_bomb(addr, 10 * size)),
        ),
        (
            "a flood of PING",
            Box::pin(flood(
                addr,
                &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
                100_000 * size,
            )),
        ),
        (
            "a flood of SETTINGS",
            Box::pin(flood(addr, &[0, 0, 0, 4, 0, 0, 0, 0, 0], 100_000 * size)),
        ),
        (
            "a flood of PRIORITY",
            Box::pin(flood(
                addr,
                &[0, 0, 5, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1],
                100_000 * size,
            )),
        ),
        (
            "a flood of empty DATA",
            Box::pin(flood(addr, &[0, 0, 0, 0, 0, 0, 0, 0, 1], 100_000 * size)),
        ),
        (
            "a flood of WINDOW_UPDATE",
            Box::pin(flood(
                addr,
                &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                100_000 * size,
            )),
        ),
        (
            "answers that nobody reads",
            Box::pin(slow_reads(addr, 20 * size)),
        ),
        (
            "requests that never end",
            Box::pin(slow_writes(addr, 10 * size)),
        ),
    ];
    for (name, attack) in attacks {
        // The guest is served while it begins, and while it lasts.
        let (held, ()) = tokio::join!(timeout(LIMIT * 2, attack), guest.is_served(addr, name));
        guest.is_served(addr, name).await;
        let grown = victim.memory("VmRSS:").saturating_sub(before);
        eprintln!("{name}: {grown} KiB more");
        assert!(grown < 128 * 1024, "{name}: {grown} KiB more");
        drop(held);
    }
    guest.is_served(addr, "after").await;
    victim.assert_unharmed();
}

/// CVE-2023-44487: streams that are opened and reset at once, without end. Each connection
/// is ended for it, and no other.
async fn rapid_reset(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    const BURST: u32 = 1000;
    let mut reset = 0;
    for _ in 0..connections {
        let mut frames = Frames::open(addr, &[]).await;
        // If the first is not enough because it comes in pieces, then one of the next.
        let ended = async {
            for burst in 0..100 {
                let calls = (0..BURST).map(|n| 2 * (burst * BURST + n) + 1);
                let calls = calls.flat_map(|stream| cancelled_call(stream, "Login"));
                // It may be ended before the last of them.
                frames.write(&calls.collect::<Vec<_>>()).await.ok();
                reset += BURST;
                frames.settle().await?;
            }
            Ok(())
        };
        assert_eq!(ended.await, Err(Reason::ENHANCE_YOUR_CALM));
    }
    eprintln!("{connections} connections were ended for {reset} streams that were reset");
    Vec::new()
}

/// VU#421644: a header block that never ends.
async fn endless_headers(addr: SocketAddr, frames: usize) -> Vec<Box<dyn Send>> {
    let mut stream = TcpStream::connect(addr).await.expect("it accepts");
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(1, 0, 1, &[0x82]));
    // Literal, never indexed: name "a", a value of 1000 bytes.
    let header = [&[0x10, 1, b'a', 0x7f, 0xe9, 0x06][..], &[b'x'; 1000]].concat();
    let continuation = frame(9, 0, 1, &header);
    let sent = async {
        stream.write_all(&bytes).await?;
        for _ in 0..frames {
            stream.write_all(&continuation).await?;
        }
        std::io::Result::Ok(())
    };
    let ended = timeout(LIMIT, sent).await;
    assert!(
        !matches!(ended, Ok(Ok(()))),
        "all {frames} frames were taken"
    );
    Vec::new()
}

/// One large header in the dynamic table, named thousands of times for a byte each.
async fn header_bomb(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(addr).await.expect("it accepts");
        // Literal with incremental indexing: name "a", a value of 3000 bytes.
        let mut block = [&[0x40, 1, b'a', 0x7f, 0xb9, 0x16][..], &[b'x'; 3000]].concat();
        block.extend([0xbe; 12_000]);
        let mut bytes = PREFACE.to_vec();
        for stream in 0..50 {
            bytes.extend(frame(1, 4, 2 * stream + 1, &block));
        }
        stream.write_all(&bytes).await.ok();
        held.push(Box::new(stream));
    }
    held
}

/// One frame again and again, and no look at what comes back.
async fn flood(addr: SocketAddr, frame: &[u8], count: usize) -> Vec<Box<dyn Send>> {
    let mut stream = TcpStream::connect(addr).await.expect("it accepts");
    stream.write_all(PREFACE).await.expect("it reads");
    // Refused, or not read any more since nobody reads the answers: both are well.
    let sent = timeout(Duration::from_secs(5), async {
        for _ in 0..count / 1000 {
            stream.write_all(&frame.repeat(1000)).await?;
        }
        std::io::Result::Ok(())
    });
    sent.await.ok();
    vec![Box::new(stream)]
}

/// Calls whose answers find no room: the client's window is closed.
async fn slow_reads(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await.expect("it accepts");
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(0).handshake::<_, Bytes>(stream);
        let (requests, connection) = handshake.await.expect("HTTP/2");
        held.push(Box::new(Aborted(tokio::spawn(connection))));
        for _ in 0..250 {
            let ready = timeout(LIMIT, requests.clone().ready()).await;
            let Ok(mut requests) = ready.expect("room for a stream") else {
                break;
            };
            let path = "http://a/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            let request = HttpRequest::post(path).header("content-type", "application/grpc");
            let request = request
                .header("te", "trailers")
                .body(())
                .expect("a request");
            let Ok((answer, mut stream)) = requests.send_request(request, false) else {
                break;
            };
            // Tell me all about the largest file.
            let question = b"\x22\x1erealchat.auth.v1.AuthService\x00\x00";
            stream
                .send_data(framed(&question[..]).repeat(20).into(), false)
                .ok();
            held.push(Box::new((answer, stream)));
        }
        held.push(Box::new(requests));
    }
    held
}

/// Messages that are sent but for their last byte, on as many streams as there may be.
async fn slow_writes(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..connections {
        let raw = RawConnection::open(addr).await;
        for _ in 0..250 {
            let ready = timeout(LIMIT, raw.requests.clone().ready()).await;
            let Ok(mut requests) = ready.expect("room for a stream") else {
                break;
            };
            let request = HttpRequest::post("http://a/realchat.auth.v1.AuthService/Login")
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let Ok((answer, mut stream)) = requests.send_request(request, false) else {
                break;
            };
            let mut body = framed(&login(&"x".repeat(60_000)).encode_to_vec());
            body.pop();
            stream.send_data(body.into(), false).ok();
            held.push(Box::new((answer, stream)));
        }
        held.push(Box::new(raw));
    }
    held
}

struct Aborted(tokio::task::JoinHandle<Result<(), h2::Error>>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_leave_room_for_others() {
    const BOUND: usize = 4096;
    const SILENT: usize = 500;
    // Two ends of each connection are in the two processes, not in one.
    if !allow_descriptors(BOUND + 1000) {
        return skip("fewer than 5096 file descriptors for a process");
    }
    let victim = Victim::on_sqlite().await;
    let (addr, mut guest) = (victim.addr, Guest::arrive(victim.addr).await);
    guest.is_served(addr, "before").await;
    let before = victim.memory("VmRSS:");

    // Some say nothing, and give their places back when the server loses patience: all that
    // depends on the machine's speed is how many of them are left.
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(addr).await.expect("it accepts"));
    }
    // Nobody is turned away while there is room. The guest has one or two connections.
    let mut idle = Vec::new();
    for n in 0..BOUND - SILENT - 10 {
        let connection = greet(addr).await;
        idle.push(connection.unwrap_or_else(|| panic!("number {n} is turned away")));
    }
    guest.is_served(addr, "while thousands idle").await;
    let grown = victim.memory("VmRSS:").saturating_sub(before);
    eprintln!("{} idle connections: {grown} KiB more", idle.len());
    assert!(grown < 256 * 1024, "{grown} KiB more");

    // Who is one too many is turned away at once, and the guest stays.
    let mut turned_away = 0;
    for _ in 0..BOUND {
        match greet(addr).await {
            Some(connection) => idle.push(connection),
            None => turned_away += 1,
        }
        if turned_away == 20 {
            break;
        }
    }
    assert_eq!(turned_away, 20, "{} connections at once", idle.len());
    for _ in 0..5 {
        guest.refreshes("when the house is full").await;
    }
    victim.process.wait_for("too many connections").await;

    drop((silent, idle));
    let room = async {
        while greet(addr).await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, room)
        .await
        .expect("their places are free again");
    guest.is_served(addr, "after").await;
    victim.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_it_waits_and_recovers() {
    let victim = Victim::on_sqlite().await;
    let (addr, mut guest) = (victim.addr, Guest::arrive(victim.addr).await);
    let id = i32::try_from(victim.process.pid()).expect("a process id");
    let pid = Pid::from_raw(id);
    // What it has open, and a few more.
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
    let failures = || {
        let log = victim.process.log().into_iter();
        log.filter(|line| line.contains("cannot accept")).count()
    };
    // It goes to sleep between two of them: one of its threads gives its core away. What
    // spins does so only when others want the core, or nobody reads its log.
    let (slept, failed) = (victim.voluntary_switches(), failures());
    while failures() < failed + 40 {
        sleep(Duration::from_millis(10)).await;
    }
    let failed = failures() - failed;
    let slept = victim.voluntary_switches() - slept;
    eprintln!("{failed} failures, in which threads slept {slept} times");
    assert!(
        2 * slept >= failed,
        "it spins: slept {slept} times in {failed} failures"
    );
    // Who is there is served.
    guest.refreshes("without descriptors").await;

    prlimit(pid, Resource::Nofile, limit).expect("as before");
    guest
        .is_served(addr, "when there are descriptors again")
        .await;
    drop(waiting);
    victim.assert_unharmed();
}

/// A connection that does no more than it must to stay: it answers pings. `None` if the
/// server turned it away, else it has answered a ping too.
async fn greet(addr: SocketAddr) -> Option<(SendRequest<Bytes>, Aborted)> {
    let stream = TcpStream::connect(addr).await.expect("the kernel accepts");
    let (requests, mut connection) = h2::client::handshake(stream).await.ok()?;
    let mut pings = connection.ping_pong().expect("nobody took it");
    let driver = Aborted(tokio::spawn(connection));
    let answer = timeout(LIMIT, pings.ping(Ping::opaque())).await;
    answer
        .expect("an answer")
        .is_ok()
        .then_some((requests, driver))
}

/// Raises this process's limit, if the system lets it.
fn allow_descriptors(count: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).is_ok()
        && limit.maximum.is_none_or(|most| most >= count as u64)
}
