//! Lines of a text of any size, in constant memory.

use std::io::{self, BufRead, Read as _};

/// The longest line. An account with all roles takes a fortieth of this.
pub(super) const LONGEST: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

pub(super) struct Lines<R> {
    input: R,
    /// The number of the last line, from 1 on.
    number: u64,
    /// How much was read.
    bytes: u64,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    TooLong,
    NotUtf8,
}

/// The number of a line, and its text without the line break.
pub(super) type Line<'a> = (u64, Result<&'a str, Malformed>);

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(input: R) -> Self {
        Self {
            input,
            number: 0,
            bytes: 0,
            line: Vec::new(),
        }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `None` at the end. The rest of a line that is too long is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut start = self.input.by_ref().take(LONGEST as u64 + 1);
        let mut read = start.read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        if read > LONGEST && !self.line.ends_with(b"\n") {
            read += self.input.skip_until(b'\n')?;
        }
        self.bytes += read as u64;
        self.number += 1;
        Ok(Some((self.number, self.text())))
    }

    fn text(&self) -> Result<&str, Malformed> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if line.len() > LONGEST {
            return Err(Malformed::TooLong);
        }
        let begin = if self.number == 1 {
            BYTE_ORDER_MARK
        } else {
            b""
        };
        let line = line.strip_prefix(begin).unwrap_or(line);
        str::from_utf8(line).map_err(|_| Malformed::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read, repeat};

    use proptest::prelude::*;

    use super::*;

    type Owned = (u64, Result<String, Malformed>);

    fn lines_of(input: impl Read, buffer: usize) -> Vec<Owned> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input));
        let mut all = Vec::new();
        while let Some((number, text)) = lines.next().unwrap() {
            all.push((number, text.map(str::to_owned)));
            assert!(lines.line.capacity() <= 2 * LONGEST + 4, "bounded");
        }
        all
    }

    fn lines(input: &[u8]) -> Vec<Owned> {
        lines_of(input, 8192)
    }

    fn texts(input: &[u8]) -> Vec<String> {
        lines(input)
            .into_iter()
            .map(|(_, text)| text.unwrap())
            .collect()
    }

    #[test]
    fn the_last_line_needs_no_line_break() {
        assert!(lines(b"").is_empty());
        assert_eq!(texts(b"a"), ["a"]);
        assert_eq!(texts(b"a\n"), ["a"]);
        assert_eq!(texts(b"a\nb"), ["a", "b"]);
        assert_eq!(texts(b"\n\na\r\n"), ["", "", "a\r"]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_only_at_the_beginning() {
        assert_eq!(texts(b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb"), ["a", "\u{FEFF}b"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let long = "x".repeat(LONGEST);
        let text = format!("{long}\n{long}y\n{long}\u{e9}\nz");
        let malformed = Err(Malformed::TooLong);
        let expected = [
            (1, Ok(long)),
            (2, malformed.clone()),
            (3, malformed),
            (4, Ok("z".to_owned())),
        ];
        assert_eq!(lines(text.as_bytes()), expected);
    }

    #[test]
    fn a_line_of_any_length_needs_no_memory() {
        let long = repeat(b'x').take(32 << 20).chain(&b"\nz"[..]);
        let expected = [(1, Err(Malformed::TooLong)), (2, Ok("z".to_owned()))];
        assert_eq!(lines_of(long, 1 << 20), expected);
    }

    #[test]
    fn a_line_of_other_bytes_does_not_end_the_reading() {
        let expected = [(1, Err(Malformed::NotUtf8)), (2, Ok("b".to_owned()))];
        assert_eq!(lines(b"a\xFF\nb\n"), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_the_lines_between_their_line_breaks(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            buffer in 1_usize..20,
        ) {
            prop_assume!(!bytes.starts_with(BYTE_ORDER_MARK));
            let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
            expected.pop_if(|last| last.is_empty());
            let numbered = expected.into_iter().zip(1..).map(|(line, number)| {
                (number, str::from_utf8(line).map(str::to_owned).map_err(|_| Malformed::NotUtf8))
            });
            prop_assert_eq!(lines_of(&*bytes, buffer), numbered.collect::<Vec<_>>());
        }
    }
}
