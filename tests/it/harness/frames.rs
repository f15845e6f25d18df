//! HTTP/2 frame by frame: the bytes of each write, and every frame that comes back.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::INTERNAL_TOKEN;

/// The first bytes of a client, with empty SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The kind of a frame with a part of a body.
pub const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The error code CANCEL.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// A connection that answers pings by itself, and nothing else.
pub struct Frames(TcpStream);

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    /// 0 is the connection.
    pub stream: u32,
    flags: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY.
    pub fn goaway(&self) -> Option<h2::Reason> {
        let code = (self.kind == GOAWAY).then(|| self.payload[4..8].try_into().expect("four"));
        code.map(|code| u32::from_be_bytes(code).into())
    }

    /// Whether this is the last frame of its stream.
    pub fn ends_stream(&self) -> bool {
        [DATA, HEADERS].contains(&self.kind) && self.flags & END_STREAM != 0
    }

    fn is_pong(&self) -> bool {
        self.kind == PING && self.flags & ACK != 0
    }
}

impl Frames {
    /// Connects, and sends the preface and `then`.
    pub async fn open(addr: SocketAddr, then: &[u8]) -> Self {
        let stream = TcpStream::connect(addr).await.expect("it accepts");
        let mut frames = Self(stream);
        let bytes = [PREFACE, then].concat();
        frames.write(&bytes).await.expect("it reads");
        frames
    }

    /// One write, so that all bytes arrive at once.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// `None` once the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let next = timeout(Duration::from_mins(1), self.read()).await;
        next.expect("a frame, or the end").ok()
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut header = [0; 9];
        self.0.read_exact(&mut header).await?;
        let [l1, l2, l3, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, l1, l2, l3]) as usize];
        self.0.read_exact(&mut payload).await?;
        if kind == PING && flags & ACK == 0 {
            self.write(&frame(PING, ACK, 0, &payload)).await.ok();
        }
        let stream = u32::from_be_bytes(stream);
        Ok(Frame {
            kind,
            stream,
            flags,
            payload,
        })
    }

    /// Waits until the server has read all that was sent, which its answer to a ping shows. The
    /// error is the reason why the server closed the connection.
    pub async fn settle(&mut self) -> Result<(), h2::Reason> {
        self.write(&frame(PING, 0, 0, b"are you?")).await.ok();
        loop {
            let frame = self.next().await.expect("a reason before the end");
            if frame.is_pong() {
                return Ok(());
            }
            if let Some(reason) = frame.goaway() {
                return Err(reason);
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A call of `AuthService` by the internal caller, without the last byte of its body.
pub fn call_but_its_end(stream: u32, method: &str, body: &[u8]) -> Vec<u8> {
    let most = frame(DATA, 0, stream, &body[..body.len() - 1]);
    [call_headers(stream, method), most].concat()
}

/// The last byte of that body.
pub fn end_of_call(stream: u32, body: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, &body[body.len() - 1..])
}

/// A call that is cancelled at once.
pub fn cancelled_call(stream: u32, method: &str) -> Vec<u8> {
    let cancel = frame(RST_STREAM, 0, stream, &CANCEL);
    [call_headers(stream, method), cancel].concat()
}

fn call_headers(stream: u32, method: &str) -> Vec<u8> {
    let path = format!("/realchat.auth.v1.AuthService/{method}");
    let bearer = format!("Bearer {INTERNAL_TOKEN}");
    // POST and http are entries of HPACK's static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path.as_str()),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &bearer),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}
