//! The bytes of the attacks, as frames of HTTP/2 with headers in HPACK.

use std::{iter, sync::Arc};

use crate::harness::{DATA, frame, framed};

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const LOGIN: &str = "/realchat.auth.v1.AuthService/Login";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Calls on each connection: as many as the server takes at a time.
const STREAMS: u32 = 1024;
/// More connections than the server takes.
const CONNECTIONS: usize = 600;

/// Where the bytes are sent.
#[derive(Clone, Copy)]
pub enum Layer {
    Tcp,
    /// Within TLS, if there is TLS.
    Http2,
    /// Below HTTP/2 and TLS, after the handshake.
    Record,
}

#[derive(Clone)]
pub struct Attack {
    pub name: &'static str,
    pub connections: usize,
    pub layer: Layer,
    pub bytes: Arc<[u8]>,
    pub reads: bool,
}

pub fn attacks() -> Vec<Attack> {
    [unread_answers(), unfinished_calls(), floods()].concat()
}

/// The client reads nothing.
fn unread_answers() -> Vec<Attack> {
    let unread = |name, connections, bytes| Attack {
        name,
        connections,
        layer: Layer::Http2,
        bytes: Vec::into(bytes),
        reads: false,
    };
    let errors = streams(1000).flat_map(|id| headers(id, "/a/b", &[], END_STREAM));
    vec![
        unread(
            "reflection, huge windows",
            12,
            unread_reflection(i32::MAX.cast_unsigned()),
        ),
        unread("reflection, windows of one byte", 12, unread_reflection(1)),
        unread(
            "reflection on many connections",
            30,
            unread_reflection(i32::MAX.cast_unsigned()),
        ),
        unread(
            "errors, huge windows",
            20,
            [huge_windows(), errors.collect()].concat(),
        ),
        unread("PING", 60, frame(PING, 0, 0, &[1; 8]).repeat(100_000)),
        unread("SETTINGS", 60, frame(SETTINGS, 0, 0, &[]).repeat(100_000)),
        unread("watches", 60, streams(STREAMS).flat_map(watch).collect()),
    ]
}

/// The client sends a part of each request, and keeps the streams open.
fn unfinished_calls() -> Vec<Attack> {
    let unfinished = |name, connections, bytes| Attack {
        name,
        connections,
        layer: Layer::Http2,
        bytes: Vec::into(bytes),
        reads: true,
    };
    let on_each = |block: &dyn Fn(u32) -> Vec<u8>| {
        let calls = streams(STREAMS).flat_map(|id| headers(id, LOGIN, &block(id), 0));
        calls.collect::<Vec<_>>()
    };
    let large = literal(0, b"a", &[b'x'; 15_000]);
    // Later blocks name the header of the first by one byte, as often as a list may have.
    let referenced = |id| match id {
        1 => literal(0x40, b"a", &[b'x'; 3900]),
        _ => vec![0xbe; 4],
    };
    let tiny = |id| match id {
        1 => (0..100_u8)
            .flat_map(|n| literal(0x40, format!("{n:x}").as_bytes(), b""))
            .collect(),
        _ => (0..440_u16)
            .map(|n| 0xbe + u8::try_from(n % 60).expect("small"))
            .collect(),
    };
    let body = framed(&vec![b'x'; 60_000]);
    let slow = (0..15).flat_map(|n| {
        let piece = body[4000 * n..4000 * (n + 1)].to_vec();
        streams(STREAMS).flat_map(move |id| frame(DATA, 0, id, &piece))
    });
    // A frame of an unknown kind is skipped.
    let skipped = frame(0xfa, 0, 0, &[0; 8 * 1024]);
    let spread = streams(STREAMS).flat_map(|id| [headers(id, LOGIN, &[], 0), skipped.clone()]);
    let spread = spread.flatten();
    vec![
        unfinished("15 KB of headers", 60, on_each(&|_| large.clone())),
        unfinished("a header that is referenced", 60, on_each(&referenced)),
        unfinished("tiny headers that are referenced", 60, on_each(&tiny)),
        unfinished(
            "no headers, many connections",
            400,
            on_each(&|_| Vec::new()),
        ),
        unfinished(
            "large bodies",
            60,
            [on_each(&|_| Vec::new()), slow.collect()].concat(),
        ),
        unfinished(
            "health watches",
            60,
            streams(STREAMS).flat_map(watch).collect(),
        ),
        unfinished("nothing", CONNECTIONS, Vec::new()),
        unfinished("paths in buffers of their own", 60, spread.collect()),
        unfinished(
            "header blocks without an end",
            CONNECTIONS,
            frame(HEADERS, 0, 1, &tiny(1)),
        ),
        unfinished("a text without an end", CONNECTIONS, endless_text()),
        unfinished(
            "frames without an end",
            CONNECTIONS,
            frame(DATA, 0, 1, &[0; 16_384])[..16_000].to_vec(),
        ),
    ]
}

/// For a server with TLS.
pub fn on_tls() -> Vec<Attack> {
    let attack = |name, layer, bytes: Vec<u8>| Attack {
        name,
        connections: CONNECTIONS,
        layer,
        bytes: bytes.into(),
        reads: true,
    };
    // The server ends handshakes beyond 16 KiB.
    let handshake = endless_handshake()[..16_384].to_vec();
    let record = [&[23, 3, 3, 0x40, 0x11][..], &[0; 16_000]].concat();
    vec![
        attack("handshakes without an end", Layer::Tcp, handshake),
        attack("records without an end", Layer::Record, record),
    ]
}

/// The first message of a client, in records of 16,000 bytes. It never ends.
pub fn endless_handshake() -> Vec<u8> {
    let message = [vec![1, 0, 0xff, 0xff], vec![0; 64_000]].concat();
    let records = message.chunks(16_000).map(|part| {
        let length = u16::try_from(part.len()).expect("short").to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    });
    records.flatten().collect()
}

/// A header block with the name of a field, which has a million bytes.
fn endless_text() -> Vec<u8> {
    let begin = [&[0, 0x7f, 0xc1, 0x83, 0x3d][..], &[b'a'; 16_000]].concat();
    let more = frame(CONTINUATION, 0, 1, &[b'a'; 16_384]);
    // h2 refuses more than five.
    [frame(HEADERS, 0, 1, &begin), more.repeat(5)].concat()
}

fn floods() -> Vec<Attack> {
    let flood = |name, bytes: Vec<u8>| {
        [true, false].map(|reads| Attack {
            name,
            connections: 20,
            layer: Layer::Http2,
            bytes: bytes.clone().into(),
            reads,
        })
    };
    let reset = |id| {
        [
            headers(id, LOGIN, &[], 0),
            frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let more = frame(CONTINUATION, 0, 1, &literal(0x10, b"a", &[b'x'; 1000]));
    let endless = [frame(HEADERS, 0, 1, &[0x82]), more.repeat(2000)].concat();
    let body = framed(b"\x0a\x07a@b.com\x12\x10pppppppppppppppp");
    let login = |id| {
        let large = literal(0, b"a", &[b'x'; 15_000]);
        [
            headers(id, LOGIN, &large, 0),
            frame(DATA, END_STREAM, id, &body),
        ]
        .concat()
    };
    [
        flood("rapid resets", streams(1000).flat_map(reset).collect()),
        flood("CONTINUATION", endless),
        flood(
            "logins with 15 KB of headers",
            streams(STREAMS).flat_map(login).collect(),
        ),
    ]
    .concat()
}

/// A reflection call on each stream, with twenty questions for a whole file.
pub fn unread_reflection(window: u32) -> Vec<u8> {
    let windows = [stream_windows(window), huge_connection_window()].concat();
    let calls = streams(STREAMS).flat_map(|id| {
        let more = frame(DATA, 0, id, &question().repeat(19));
        [reflection(id), more].concat()
    });
    [windows, calls.collect()].concat()
}

/// A reflection call with one question, which the client does not end.
pub fn reflection(id: u32) -> Vec<u8> {
    [
        headers(id, REFLECTION, &[], 0),
        frame(DATA, 0, id, &question()),
    ]
    .concat()
}

/// The question with the largest answer: a whole proto file.
fn question() -> Vec<u8> {
    framed(b"\x22\x1crealchat.auth.v1.AuthService")
}

pub fn watch(id: u32) -> Vec<u8> {
    let body = frame(DATA, END_STREAM, id, &framed(&[]));
    [headers(id, WATCH, &[], 0), body].concat()
}

fn huge_windows() -> Vec<u8> {
    [
        stream_windows(i32::MAX.cast_unsigned()),
        huge_connection_window(),
    ]
    .concat()
}

/// How much of each answer the client grants.
pub fn stream_windows(bytes: u32) -> Vec<u8> {
    let setting = [&[0, 4][..], &bytes.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &setting)
}

/// Grants 64 KiB of the answer on one stream.
pub fn grant(id: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, &0x1_0000_u32.to_be_bytes())
}

/// A question for the health, which has one answer.
pub fn check(id: u32) -> Vec<u8> {
    let body = frame(DATA, END_STREAM, id, &framed(&[]));
    [headers(id, "/grpc.health.v1.Health/Check", &[], 0), body].concat()
}

fn huge_connection_window() -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, 0, &(i32::MAX - 65_535).to_be_bytes())
}

/// The ids of a client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    iter::successors(Some(1), |id| Some(id + 2)).take(count as usize)
}

/// The headers of a call, in as many frames as they need.
fn headers(id: u32, path: &str, more: &[u8], flags: u8) -> Vec<u8> {
    // POST and http are entries of HPACK's static table.
    let block = [
        &[0x83, 0x86][..],
        &literal(0, b":path", path.as_bytes()),
        &literal(0, b":authority", b"localhost"),
        &literal(0, b"content-type", b"application/grpc"),
        &literal(0, b"te", b"trailers"),
        more,
    ];
    frame(HEADERS, END_HEADERS | flags, id, &block.concat())
}

/// A field of HPACK with a new name.
fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(name), name, &length(value), value].concat()
}

/// The length of a string (RFC 7541, 5.1).
fn length(text: &[u8]) -> Vec<u8> {
    match text.len() {
        short @ ..127 => vec![u8::try_from(short).expect("small")],
        long => {
            let rest = long - 127;
            let [low, high] =
                [rest & 0x7f, rest >> 7].map(|byte| u8::try_from(byte).expect("small"));
            vec![0x7f, low | 0x80, high]
        }
    }
}
