//! The memory of the process, whatever unauthenticated clients send and do not read.
//!
//! Each attack opens many connections and sends its bytes frame by frame, so that nothing of a
//! client library limits it. The peak is that of the whole process since its start.

mod bytes;

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use self::bytes::Attack;
use super::target::{LIMIT, OtherClient, Target};
use crate::harness::{Frames, PREFACE, frame};

/// The promise of README and runbook: 128 MB.
const BOUND_KIB: u64 = 128_000_000 / 1024;

/// An attack has its effect by then, or its bytes wait in vain to be read.
const DURATION: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn the_process_stays_below_128_mb_under_every_attack() {
    let target = quiet_target().await;
    let (addr, mut other) = (target.addr, OtherClient::register(target.addr).await);
    let peak = || target.memory("VmHWM:");
    eprintln!("before any attack: {} KiB", peak());
    let mut all = Vec::new();
    for attack in bytes::attacks() {
        let name = attack.name;
        all.push(attack.clone());
        let held = attacked(addr, vec![attack], &mut other, name).await;
        eprintln!("{name}: peak {} KiB", peak());
        assert!(peak() < BOUND_KIB, "{name}: {} KiB", peak());
        drop(held);
    }
    for attack in &mut all {
        attack.connections = attack.connections.div_ceil(4);
    }
    let held = attacked(addr, all, &mut other, "all together").await;
    let peak = peak();
    eprintln!(
        "peak memory of the process under attack: {} MB",
        peak * 1024 / 1_000_000
    );
    assert!(peak < BOUND_KIB, "all together: {peak} KiB");
    drop(held);
    other.assert_served(addr, "after").await;
    // On a busy machine the database may miss its deadline, which is logged as an error.
    let log = target.process.log();
    assert!(!log.iter().any(|line| line.contains("panicked")));
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
    name: &str,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    for attack in attacks {
        for _ in 0..attack.connections {
            let attack = attack.clone();
            connections.spawn(async move {
                // The service may close the connection, or refuse it.
                attack.run(addr).await.ok();
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
    async fn run(&self, addr: SocketAddr) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        if !self.reads {
            // The kernel would keep much for a client that does not read.
            socket.set_recv_buffer_size(4096)?;
        }
        let (mut reader, mut writer) = socket.connect(addr).await?.into_split();
        let sends = async {
            writer.write_all(PREFACE).await?;
            writer.write_all(&self.bytes).await?;
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
    let mut frames = Frames::open(target.addr, &bytes::unread_reflection(1)).await;
    while frames.next().await.is_some() {}
}
