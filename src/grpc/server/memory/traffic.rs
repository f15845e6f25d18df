//! Estimates what a connection keeps in memory, from the frames that pass.

use std::{collections::HashMap, mem};

use super::{
    Held,
    field_counter::FieldCounter,
    frame_reader::{CONTINUATION, DATA, FrameReader, HEADERS, Head, Part, RST_STREAM},
};
use crate::grpc::{MAX_MESSAGE_BYTES, server::MAX_HEADER_BYTES};

/// A stream with an unfinished unary call takes this: the tasks and buffers of h2, hyper and
/// tonic. Measured with the debug build; the release build takes less.
pub const STREAM_BYTES: usize = 16 * 1024;
/// The same with a large message.
pub const LONG_STREAM_BYTES: usize = STREAM_BYTES + 2 * MAX_MESSAGE_BYTES;
/// An entry of a `HeaderMap` whose capacity has just doubled.
const FIELD_BYTES: usize = 192;
/// Each field counts for at least 32 bytes of the limit of a header list (RFC 9113, 6.5.2).
const MAX_FIELDS: usize = MAX_HEADER_BYTES as usize / 32;

/// The calls of one connection that begin before other connections have their turn. Else a
/// client that sends thousands of calls would delay the calls of others.
const STREAMS_AT_ONCE: usize = 4;

pub struct Traffic {
    received: FrameReader,
    sent: FrameReader,
    streams: HashMap<u32, Stream>,
    /// The highest id until now.
    newest: u32,
    block: Block,
    sends_data: bool,
    /// Streams that the peer has reset. Their tasks run once more before they end.
    reset: usize,
}

pub struct Received {
    pub bytes: usize,
    /// New ones.
    pub streams: usize,
    /// Whether a header block ended.
    pub ends_block: bool,
}

#[derive(Default)]
struct Stream {
    fields: usize,
    header_bytes: usize,
    body_bytes: usize,
    /// All of the request is here.
    requested: bool,
    /// The answer has begun.
    answering: bool,
    /// All of the answer is sent.
    answered: bool,
}

/// The header block that is being received. Until its end, h2 keeps text that is not complete,
/// even if it will be too long.
#[derive(Default)]
struct Block {
    open: bool,
    stream: u32,
    fields: usize,
    bytes: usize,
    /// Whether the current frame is a part of it.
    current: bool,
    /// Whether that part is the last one.
    ends: bool,
    /// Bytes before the fields: the length of the padding, and the priority.
    prefix: usize,
    counter: FieldCounter,
}

impl Traffic {
    pub fn new() -> Self {
        Self {
            received: FrameReader::of_client(),
            sent: FrameReader::of_server(),
            streams: HashMap::new(),
            newest: 0,
            block: Block::default(),
            sends_data: false,
            reset: 0,
        }
    }

    pub fn held(&self) -> Held {
        let block = self.block.fields.min(MAX_FIELDS) * FIELD_BYTES + 2 * self.block.bytes;
        let buffer = self.received.unfinished() + block;
        let mut held = Held {
            all: buffer + self.reset,
            stalled: buffer,
        };
        for stream in self.streams.values() {
            held.all += stream.bytes();
            if !stream.requested || stream.answering {
                held.stalled += stream.bytes();
            }
        }
        held
    }

    /// Whether a header block has begun and not ended.
    pub fn block_is_open(&self) -> bool {
        self.block.open
    }

    /// The tasks of streams that the peer has reset have run.
    pub fn forget_reset(&mut self) {
        self.reset = 0;
    }

    /// Follows received bytes, up to the next stream after the first few.
    pub fn receive(&mut self, bytes: &[u8]) -> Received {
        let (mut rest, mut streams, mut ends_block) = (bytes, 0, false);
        while streams <= STREAMS_AT_ONCE
            && let Some(part) = self.received.next(&mut rest)
        {
            match part {
                Part::Head(head) => {
                    streams += usize::from(head.kind == HEADERS && head.stream > self.newest);
                    self.received_head(head);
                }
                Part::Payload(payload) if self.block.current => self.received_fields(payload),
                Part::Payload(_) => {}
            }
            if self.block.current && self.block.ends && self.received.unfinished() == 0 {
                self.end_block();
                ends_block = true;
            }
        }
        Received {
            bytes: bytes.len() - rest.len(),
            streams,
            ends_block,
        }
    }

    /// The bytes of bodies among the sent bytes.
    pub fn send(&mut self, mut bytes: &[u8]) -> usize {
        let mut data = 0;
        while let Some(part) = self.sent.next(&mut bytes) {
            match part {
                Part::Head(head) => self.sent_head(head),
                Part::Payload(payload) if self.sends_data => data += payload.len(),
                Part::Payload(_) => {}
            }
        }
        data
    }

    fn received_head(&mut self, head: Head) {
        self.block.current = false;
        match head.kind {
            HEADERS => self.received_headers(head),
            CONTINUATION => {
                self.block.current = self.block.open;
                self.block.ends = head.ends_headers();
            }
            DATA => {
                if let Some(stream) = self.streams.get_mut(&head.stream) {
                    stream.body_bytes = (stream.body_bytes + head.length).min(MAX_MESSAGE_BYTES);
                }
            }
            RST_STREAM => {
                let stream = self.streams.remove(&head.stream);
                self.reset += stream.map_or(0, |stream| stream.bytes());
            }
            _ => return,
        }
        if head.ends_stream() && matches!(head.kind, DATA | HEADERS) {
            self.change(head.stream, |stream| stream.requested = true);
        }
    }

    /// Headers on a stream that is not new are trailers.
    fn received_headers(&mut self, head: Head) {
        if head.stream > self.newest {
            self.newest = head.stream;
            self.streams.insert(head.stream, Stream::default());
        }
        self.block = Block {
            open: true,
            stream: head.stream,
            current: true,
            ends: head.ends_headers(),
            prefix: usize::from(head.is_padded()) + if head.has_priority() { 5 } else { 0 },
            ..Block::default()
        };
    }

    /// Padding at the end counts as fields. No client of gRPC pads.
    fn received_fields(&mut self, payload: &[u8]) {
        let prefix = self.block.prefix.min(payload.len());
        self.block.prefix -= prefix;
        self.block.fields += self.block.counter.count(&payload[prefix..]);
        self.block.bytes += payload.len();
    }

    /// h2 keeps no more than the limit of a header list. Trailers are a list of their own.
    fn end_block(&mut self) {
        let block = mem::take(&mut self.block);
        if let Some(stream) = self.streams.get_mut(&block.stream) {
            stream.fields += block.fields.min(MAX_FIELDS);
            stream.header_bytes += block.bytes.min(MAX_HEADER_BYTES as usize);
        }
    }

    fn sent_head(&mut self, head: Head) {
        self.sends_data = head.kind == DATA;
        match head.kind {
            RST_STREAM => drop(self.streams.remove(&head.stream)),
            HEADERS | DATA => self.change(head.stream, |stream| {
                stream.answering = true;
                stream.answered |= head.ends_stream();
            }),
            _ => {}
        }
    }

    /// A stream ends when both sides have ended it.
    fn change(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            change(stream);
            if stream.requested && stream.answered {
                self.streams.remove(&id);
            }
        }
    }
}

impl Stream {
    /// Huffman code can almost halve a text. tonic's buffer for a message can be twice as large.
    fn bytes(&self) -> usize {
        STREAM_BYTES + self.fields * FIELD_BYTES + 2 * self.header_bytes + 2 * self.body_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// After the preface.
    fn traffic() -> Traffic {
        let mut traffic = Traffic::new();
        assert_eq!(traffic.receive(&[0; 24]).bytes, 24);
        traffic
    }

    #[test]
    fn an_unfinished_call_is_stalled_until_its_request_ends() {
        let mut traffic = traffic();
        let received = traffic.receive(&frame(HEADERS, END_HEADERS, 1, &[0x83, 0x86]));
        assert_eq!((received.bytes, received.streams), (11, 1));
        let held = traffic.held();
        assert_eq!(held.all, STREAM_BYTES + 2 * FIELD_BYTES + 4);
        assert_eq!(held.stalled, held.all);
        traffic.receive(&frame(DATA, END_STREAM, 1, b"12345"));
        let (all, stalled) = (held.all + 10, 0);
        assert_eq!(traffic.held(), Held { all, stalled });
    }

    #[test]
    fn few_streams_begin_at_once() {
        let mut traffic = traffic();
        let ids = [1, 3, 5, 7, 9, 11, 13];
        let calls = ids
            .map(|id| frame(HEADERS, END_HEADERS, id, &[0x83]))
            .concat();
        let first = traffic.receive(&calls);
        assert_eq!((first.bytes, first.streams), (4 * 10 + 9, 5));
        let rest = traffic.receive(&calls[first.bytes..]);
        assert_eq!((rest.bytes, rest.streams), (1 + 2 * 10, 2));
        assert_eq!(traffic.held().all, 7 * (STREAM_BYTES + FIELD_BYTES + 2));
    }

    #[test]
    fn an_answer_is_stalled_until_its_last_frame_is_sent() {
        let mut traffic = traffic();
        traffic.receive(&frame(HEADERS, END_STREAM, 1, &[]));
        assert_eq!(traffic.held().stalled, 0);
        assert_eq!(traffic.send(&frame(HEADERS, 0, 1, b"200")), 0);
        assert_eq!(traffic.held().stalled, STREAM_BYTES);
        assert_eq!(traffic.send(&frame(DATA, 0, 1, b"answer")), 6);
        traffic.send(&frame(HEADERS, END_STREAM, 1, b"trailers"));
        assert_eq!(traffic.held(), Held::default());
    }

    /// The server then resets the stream.
    #[test]
    fn an_answer_to_an_unfinished_request_does_not_end_the_stream() {
        let mut traffic = traffic();
        traffic.receive(&frame(HEADERS, 0, 1, &[]));
        traffic.send(&frame(HEADERS, END_STREAM, 1, b"refused"));
        assert_eq!(traffic.held().stalled, STREAM_BYTES);
        traffic.send(&frame(RST_STREAM, 0, 1, &[0; 4]));
        assert_eq!(traffic.held(), Held::default());
    }

    #[test]
    fn a_stream_that_the_peer_resets_counts_until_its_task_has_run() {
        let mut traffic = traffic();
        traffic.receive(&frame(HEADERS, 0, 1, &[]));
        traffic.receive(&frame(RST_STREAM, 0, 1, &[0; 4]));
        assert_eq!(traffic.held().all, STREAM_BYTES);
        traffic.forget_reset();
        assert_eq!(traffic.held(), Held::default());
    }

    /// h2 keeps a text that is not complete, whatever its length.
    #[test]
    fn a_header_block_counts_with_all_its_bytes_until_its_end() {
        let mut traffic = traffic();
        // A literal whose name has a million bytes.
        let begin = b"\x00\x7f\xc1\x83\x3d";
        traffic.receive(&frame(HEADERS, 0, 1, begin));
        for _ in 0..400 {
            assert!(
                !traffic
                    .receive(&frame(CONTINUATION, 0, 1, &[b'a'; 200]))
                    .ends_block
            );
        }
        let block = FIELD_BYTES + 2 * (begin.len() + 400 * 200);
        let (all, stalled) = (STREAM_BYTES + block, STREAM_BYTES + block);
        assert_eq!(traffic.held(), Held { all, stalled });
        assert!(traffic.block_is_open());
        assert!(
            traffic
                .receive(&frame(CONTINUATION, END_HEADERS, 1, b"a"))
                .ends_block
        );
        assert!(!traffic.block_is_open());
        let most = STREAM_BYTES + FIELD_BYTES + 2 * MAX_HEADER_BYTES as usize;
        assert_eq!(traffic.held().all, most);
    }

    #[test]
    fn trailers_count_besides_the_headers() {
        let mut traffic = traffic();
        for flags in [0, END_STREAM] {
            traffic.receive(&frame(HEADERS, END_HEADERS | flags, 1, &[0xbe; 100]));
        }
        let block = 100 * FIELD_BYTES + 2 * 100;
        assert_eq!(traffic.held().all, STREAM_BYTES + 2 * block);
    }

    #[test]
    fn bytes_beyond_the_limits_of_a_stream_do_not_count() {
        let mut traffic = traffic();
        traffic.receive(&frame(HEADERS, 0, 1, &[0xbe; 200]));
        for _ in 0..400 {
            traffic.receive(&frame(CONTINUATION, 0, 1, &[0xbe; 200]));
        }
        traffic.receive(&frame(CONTINUATION, END_HEADERS, 1, &[]));
        for _ in 0..400 {
            traffic.receive(&frame(DATA, 0, 1, &[0; 200]));
        }
        let headers = MAX_FIELDS * FIELD_BYTES + 2 * MAX_HEADER_BYTES as usize;
        let most = STREAM_BYTES + headers + 2 * MAX_MESSAGE_BYTES;
        assert_eq!(traffic.held().all, most);
    }

    #[test]
    fn a_frame_without_its_end_counts_with_its_buffer() {
        let mut traffic = traffic();
        let frame = [0, 0x40, 0, DATA, 0, 0, 0, 0, 1];
        traffic.receive(&frame);
        let (all, stalled) = (0x4000, 0x4000);
        assert_eq!(traffic.held(), Held { all, stalled });
    }
}
