//! HTTP/2 that is abused: the process serves other clients, does not panic, and its memory
//! stays bounded.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use bytes::Bytes;
use h2::Reason;
use http::Request as HttpRequest;
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::target::{Driver, LIMIT, OtherClient, Target};
use crate::harness::{Frames, PREFACE, RawConnection, cancelled_call, frame, framed, login, soak};

/// An attack lasts until the value that it returns is dropped.
type Attack = Pin<Box<dyn Future<Output = Vec<Box<dyn Send>>> + Send>>;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_of_http_2_harms_no_other_client() {
    let target = Target::on_sqlite().await;
    let (addr, mut other) = (target.addr, OtherClient::register(target.addr).await);
    other.assert_served(addr, "before").await;
    let before = target.memory("VmRSS:");
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
            "answers that the client does not read",
            Box::pin(slow_reads(addr, 20 * size)),
        ),
        (
            "requests that never end",
            Box::pin(slow_writes(addr, 10 * size)),
        ),
    ];
    for (name, attack) in attacks {
        // The other client is served while the attack begins, and while it lasts.
        let (held, ()) = tokio::join!(timeout(LIMIT * 2, attack), other.assert_served(addr, name));
        other.assert_served(addr, name).await;
        let grown = target.memory("VmRSS:").saturating_sub(before);
        eprintln!("{name}: {grown} KiB more");
        assert!(grown < 128 * 1024, "{name}: {grown} KiB more");
        drop(held);
    }
    other.assert_served(addr, "after").await;
    target.assert_unharmed();
}

/// CVE-2023-44487: a client opens streams and resets them at once, again and again. The server
/// closes each such connection.
async fn rapid_reset(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    const BURST: u32 = 1000;
    let mut reset = 0;
    for _ in 0..connections {
        let mut frames = Frames::open(addr, &[]).await;
        // The first burst may arrive in pieces and be too little; then a later one is enough.
        let ended = async {
            for burst in 0..100 {
                let calls = (0..BURST).map(|n| 2 * (burst * BURST + n) + 1);
                let calls = calls.flat_map(|stream| cancelled_call(stream, "Login"));
                // The server may close the connection before it has read all.
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

/// VU#421644: a block of headers without an end.
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

/// A large header in the dynamic table. Thousands of references to it cost a byte each.
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

/// One frame again and again. The client does not read the answers.
async fn flood(addr: SocketAddr, frame: &[u8], count: usize) -> Vec<Box<dyn Send>> {
    let mut stream = TcpStream::connect(addr).await.expect("it accepts");
    stream.write_all(PREFACE).await.expect("it reads");
    // The server may close the connection, or stop reading because its answers are not read.
    let sent = timeout(Duration::from_secs(5), async {
        for _ in 0..count / 1000 {
            stream.write_all(&frame.repeat(1000)).await?;
        }
        std::io::Result::Ok(())
    });
    sent.await.ok();
    vec![Box::new(stream)]
}

/// Calls whose answers cannot be sent: the client's flow-control window is closed.
async fn slow_reads(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await.expect("it accepts");
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(0).handshake::<_, Bytes>(stream);
        let (requests, connection) = handshake.await.expect("HTTP/2");
        held.push(Box::new(Driver(tokio::spawn(connection))));
        for _ in 0..250 {
            let ready = timeout(LIMIT, requests.clone().ready()).await;
            let Ok(mut requests) = ready.expect("a free stream") else {
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
            // The question with the largest answer: a whole proto file.
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

/// Messages without their last byte, on as many streams as the server allows.
async fn slow_writes(addr: SocketAddr, connections: usize) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..connections {
        let raw = RawConnection::open(addr).await;
        for _ in 0..250 {
            let ready = timeout(LIMIT, raw.requests.clone().ready()).await;
            let Ok(mut requests) = ready.expect("a free stream") else {
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
