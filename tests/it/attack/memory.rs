//! The memory of the process, whatever unauthenticated clients send and do not read.
//!
//! Each attack opens many connections and sends its bytes frame by frame, so that nothing of a
//! client library limits it. The peak is that of the whole process since its start. Each attack
//! has a process of its own, because the allocator keeps what it has once had.

pub mod bytes;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use self::bytes::{Attack, Layer};
use super::{
    encrypted::Encrypted,
    exhaustion::allow_descriptors,
    target::{LIMIT, OtherClient, Target},
};
use crate::harness::{DATA, Frames, PREFACE, frame, skip};

/// The promise of README and runbook: 128 MB.
const BOUND_KIB: u64 = 128_000_000 / 1024;

/// The release binary has at most this size, as the README promises. The code of the debug build
/// takes more memory.
const RELEASE_KIB: u64 = 20_000_000 / 1024;

/// An attack has its effect by then, or its bytes wait in vain to be read.
const DURATION: Duration = Duration::from_secs(2);

/// The debug build of h2 asserts that a connection that is cut off has no streams left.
const H2_ASSERTION: &str = "!self.has_streams()";

/// The server closes a connection after ten seconds, and at its age after more than 4 minutes.
const CLOSED: Duration = Duration::from_secs(30);

/// One test, because each attack keeps a core busy for seconds.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_stays_below_128_mb_under_every_attack() {
    if !allow_descriptors(4000) {
        return skip("fewer than 4000 file descriptors for a process");
    }
    for attack in bytes::attacks() {
        assert_bounded(&quiet_target().await, None, attack.name, vec![attack]).await;
    }
    let all = at_once(bytes::attacks());
    assert_bounded(&quiet_target().await, None, "all together", all).await;
    let tls = Arc::new(Encrypted::new());
    for attack in bytes::on_tls() {
        assert_bounded(&tls.target().await, Some(&tls), attack.name, vec![attack]).await;
    }
    let all = at_once([bytes::on_tls(), bytes::attacks()].concat());
    let name = "all together over TLS";
    assert_bounded(&tls.target().await, Some(&tls), name, all).await;
}

/// Together they are more connections than the server takes.
fn at_once(mut attacks: Vec<Attack>) -> Vec<Attack> {
    for attack in &mut attacks {
        attack.connections = attack.connections.div_ceil(5);
    }
    attacks
}

async fn assert_bounded(
    target: &Target,
    tls: Option<&Arc<Encrypted>>,
    name: &str,
    attacks: Vec<Attack>,
) {
    let addr = target.addr;
    let mut other = OtherClient::register_over(tls.cloned(), addr).await;
    let held = attacked(addr, attacks, &mut other, tls, name).await;
    let debug_code = target.memory("RssFile:").saturating_sub(RELEASE_KIB);
    let peak = target.memory("VmHWM:") - debug_code;
    eprintln!(
        "peak memory under attack, {name}: {} MB",
        peak * 1024 / 1_000_000
    );
    assert!(peak < BOUND_KIB, "{name}: {peak} KiB");
    drop(held);
    // On a busy machine the database may miss its deadline, which is logged as an error.
    let log = target.process.log();
    let panicked = log
        .iter()
        .find(|line| line.contains("panicked") && !line.contains(H2_ASSERTION));
    assert_eq!(panicked, None, "{name}");
}

/// A log line for each frame would take longer than the attacks.
async fn quiet_target() -> Target {
    Target::with(&[("LOG", "info")]).await
}

/// Attacks while the other client is served. It lasts until the returned value is dropped.
async fn attacked(
    addr: SocketAddr,
    attacks: Vec<Attack>,
    other: &mut OtherClient,
    tls: Option<&Arc<Encrypted>>,
    name: &str,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    for attack in attacks {
        for _ in 0..attack.connections {
            let (attack, tls) = (attack.clone(), tls.cloned());
            connections.spawn(async move {
                // The service may close the connection, or refuse it.
                attack.run(addr, tls.as_deref()).await.ok();
            });
        }
    }
    let lasts = async {
        // It ends sooner if the service closes all connections.
        timeout(DURATION, async {
            while connections.join_next().await.is_some() {}
        })
        .await
        .ok();
    };
    tokio::join!(lasts, other.assert_served(addr, name));
    other.assert_served(addr, name).await;
    connections
}

impl Attack {
    async fn run(&self, addr: SocketAddr, tls: Option<&Encrypted>) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        if !self.reads {
            // The kernel would keep much for a client that does not read.
            socket.set_recv_buffer_size(4096)?;
        }
        let stream = socket.connect(addr).await?;
        match (self.layer, tls) {
            (Layer::Tcp, _) => self.exchange(stream, &[]).await,
            (_, None) => self.exchange(stream, PREFACE).await,
            (Layer::Http2, Some(tls)) => self.exchange(tls.secure(stream).await?, PREFACE).await,
            (Layer::Record, Some(tls)) => {
                let mut stream = tls.secure(stream).await?;
                stream.write_all(PREFACE).await?;
                stream.flush().await?;
                self.exchange(stream.into_inner().0, &[]).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        preface: &[u8],
    ) -> io::Result<()> {
        let (mut reader, mut writer) = split(stream);
        let sends = async {
            writer.write_all(preface).await?;
            writer.write_all(&self.bytes).await?;
            writer.flush().await?;
            std::future::pending().await
        };
        if !self.reads {
            return sends.await;
        }
        let reads = async {
            let mut buffer = vec![0; 16 * 1024];
            while reader.read(&mut buffer).await? > 0 {}
            Ok(())
        };
        tokio::select! { ended = sends => ended, ended = reads => ended }
    }
}

/// A flood of pings whose answers fill all buffers between server and client.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_client_does_not_read_is_closed() {
    let target = quiet_target().await;
    let stream = TcpStream::connect(target.addr).await.expect("it accepts");
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(PREFACE).await.expect("it reads");
    let ping = frame(6, 0, 0, b"are you?").repeat(1000);
    let ended = async { while writer.write_all(&ping).await.is_ok() {} };
    timeout(LIMIT, ended)
        .await
        .expect("it is closed, not only not read");
    // What the kernel had taken can still be read, and then the end.
    let mut buffer = vec![0; 64 * 1024];
    let end = async { while reader.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(LIMIT, end).await.expect("no more bytes");
}

/// The TCP connection is read, but the client grants one byte of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_client_grants_no_window_is_closed() {
    let target = quiet_target().await;
    let frames = Frames::open(target.addr, &bytes::unread_reflection(1)).await;
    assert_closed(frames).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_client_does_not_end_its_headers_is_closed() {
    let target = quiet_target().await;
    let headers = frame(bytes::HEADERS, 0, 1, &[0x82]);
    let frames = Frames::open(target.addr, &headers).await;
    assert_closed(frames).await;
}

async fn assert_closed(mut frames: Frames) {
    let end = async { while frames.next().await.is_some() {} };
    timeout(CLOSED, end).await.expect("it is closed");
}

/// A gateway does this when a client of its own has gone. The answers were waiting to be read.
#[tokio::test(flavor = "multi_thread")]
async fn answers_to_cancelled_calls_do_not_count_as_unread() {
    let target = quiet_target().await;
    let watch = [bytes::stream_windows(0), bytes::watch(1), bytes::grant(1)].concat();
    let mut frames = Frames::open(target.addr, &watch).await;
    while frames.next().await.expect("the state").kind != DATA {}
    for id in [3, 5, 7, 9, 11, 13] {
        frames
            .write(&bytes::reflection(id))
            .await
            .expect("it reads");
        loop {
            let frame = frames.next().await.expect("an answer");
            if frame.kind == bytes::HEADERS && frame.stream == id {
                break;
            }
        }
        // The answer has to wait until it is granted.
        assert_eq!(frames.settle().await, Ok(()));
        let reset = frame(bytes::RST_STREAM, 0, id, &[0, 0, 0, 8]);
        frames.write(&reset).await.expect("it reads");
    }
    let check = [bytes::check(15), bytes::grant(15)].concat();
    frames.write(&check).await.expect("it reads");
    loop {
        let frame = frames.next().await.expect("an answer before the end");
        if frame.stream == 15 && frame.ends_stream() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_an_end_is_ended() {
    let encrypted = Encrypted::new();
    let target = encrypted.target().await;
    let mut stream = TcpStream::connect(target.addr).await.expect("it accepts");
    // The server may close the connection before it has read all.
    stream.write_all(&bytes::endless_handshake()).await.ok();
    target.process.wait_for("too much for a handshake").await;
}
