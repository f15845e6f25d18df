//! Finds the frames in a stream of bytes that comes in pieces (RFC 9113, 4.1).

/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

/// h2 refuses longer frames, and keeps no buffer for them.
const MAX_FRAME_BYTES: usize = 16 * 1024;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const CONTINUATION: u8 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    flags: u8,
    pub stream: u32,
}

impl Head {
    pub fn ends_stream(self) -> bool {
        self.flags & 0x1 != 0
    }

    pub fn ends_headers(self) -> bool {
        self.flags & 0x4 != 0
    }

    pub fn is_padded(self) -> bool {
        self.flags & 0x8 != 0
    }

    pub fn has_priority(self) -> bool {
        self.flags & 0x20 != 0
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Head(Head),
    /// A piece of the payload of the last frame.
    Payload(&'a [u8]),
}

pub struct FrameReader {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Of the payload; at first, of the preface.
    missing: usize,
    length: usize,
}

impl FrameReader {
    /// For the bytes of a client, which begin with the preface.
    pub fn of_client() -> Self {
        Self {
            missing: PREFACE_BYTES,
            ..Self::of_server()
        }
    }

    pub fn of_server() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            missing: 0,
            length: 0,
        }
    }

    /// Takes the next part from the front of `bytes`. `None` when more bytes are needed.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.missing > 0 {
            let payload = bytes.split_off(..self.missing.min(bytes.len()))?;
            self.missing -= payload.len();
            return (!payload.is_empty()).then_some(Part::Payload(payload));
        }
        let more = bytes.split_off(..(HEAD_BYTES - self.head_bytes).min(bytes.len()))?;
        self.head[self.head_bytes..][..more.len()].copy_from_slice(more);
        self.head_bytes += more.len();
        if self.head_bytes < HEAD_BYTES {
            return None;
        }
        self.head_bytes = 0;
        let [l1, l2, l3, kind, flags, stream @ ..] = self.head;
        self.length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        self.missing = self.length;
        Some(Part::Head(Head {
            length: self.length,
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }))
    }

    /// The length of a frame whose payload is not complete: h2 keeps a buffer for it.
    pub fn unfinished(&self) -> usize {
        if self.missing > 0 {
            self.length.min(MAX_FRAME_BYTES)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_refused_needs_no_buffer() {
        let mut reader = FrameReader::of_server();
        reader.next(&mut &[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..]);
        assert_eq!(reader.unfinished(), MAX_FRAME_BYTES);
    }

    /// Two frames, cut at every position.
    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [
            &[b'P'; PREFACE_BYTES][..],
            &[0, 0, 3, DATA, 1, 0, 0, 0, 5, b'a', b'b', b'c'],
            &[0, 0, 0, HEADERS, 0x28, 0x80, 0, 0, 7],
        ]
        .concat();
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::of_client();
            let (mut heads, mut payload) = (Vec::new(), Vec::<u8>::new());
            for mut piece in [&bytes[..cut], &bytes[cut..]] {
                while let Some(part) = reader.next(&mut piece) {
                    match part {
                        Part::Head(head) => heads.push(head),
                        Part::Payload(bytes) if !heads.is_empty() => payload.extend(bytes),
                        Part::Payload(_) => {}
                    }
                }
                assert!(piece.is_empty());
            }
            let [data, headers] = heads[..] else {
                panic!("{heads:?}")
            };
            assert_eq!((data.length, data.kind, data.stream), (3, DATA, 5));
            assert!(data.ends_stream() && !headers.ends_stream());
            assert_eq!((headers.length, headers.stream), (0, 7));
            assert!(headers.is_padded() && headers.has_priority());
            assert_eq!(payload, b"abc");
            assert_eq!(reader.unfinished(), 0);
        }
    }
}
