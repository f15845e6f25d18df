//! Counts the fields of a compressed header block (HPACK, RFC 7541, 6), without decompressing.
//!
//! The number of fields decides how much memory the block takes: one byte can name a field
//! of the compression table. h2 shares the text of such a field, but keeps an entry for each.

#[derive(Debug, Default)]
pub struct FieldCounter {
    state: State,
    /// Strings of the current field that are still to come.
    strings: u8,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Field,
    Length,
    /// The further bytes of a number.
    Number {
        of: Number,
        value: usize,
        shift: u32,
    },
    Text(usize),
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Index,
    Length,
}

impl FieldCounter {
    /// The number of fields that begin in this piece of the block.
    pub fn count(&mut self, mut block: &[u8]) -> usize {
        let mut fields = 0;
        while let Some(&byte) = block.first() {
            if let State::Text(missing) = self.state {
                let text = missing.min(block.len());
                block = &block[text..];
                self.text(missing - text);
                continue;
            }
            block = &block[1..];
            match self.state {
                State::Field => {
                    fields += 1;
                    self.field(byte);
                }
                State::Length => self.number(Number::Length, byte, 7),
                State::Number { of, value, shift } => self.next_byte(of, value, shift, byte),
                State::Text(_) => unreachable!("handled above"),
            }
        }
        fields
    }

    /// The first byte says how the field is written.
    fn field(&mut self, byte: u8) {
        let (strings, index_bits) = match byte {
            0x80.. => (0, 7),
            0x40.. => (1, 6),
            // A new size of the table.
            0x20.. => (0, 5),
            _ => (1, 4),
        };
        // With the index 0, a literal also has its name as a string.
        let named = strings == 1 && byte & !(u8::MAX << index_bits) == 0;
        self.strings = strings + u8::from(named);
        self.number(Number::Index, byte, index_bits);
    }

    /// Begins a number whose first bits are in `byte` (RFC 7541, 5.1).
    fn number(&mut self, of: Number, byte: u8, bits: u32) {
        let most = !(u8::MAX << bits);
        let value = usize::from(byte & most);
        if byte & most == most {
            let shift = 0;
            self.state = State::Number { of, value, shift };
        } else {
            self.end_number(of, value);
        }
    }

    fn next_byte(&mut self, of: Number, value: usize, shift: u32, byte: u8) {
        let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        let value = value.saturating_add(more);
        if byte & 0x80 == 0 {
            self.end_number(of, value);
        } else {
            let shift = shift.saturating_add(7);
            self.state = State::Number { of, value, shift };
        }
    }

    fn end_number(&mut self, of: Number, value: usize) {
        match of {
            Number::Index => self.next_string(),
            Number::Length => {
                self.strings -= 1;
                self.text(value);
            }
        }
    }

    fn text(&mut self, missing: usize) {
        if missing > 0 {
            self.state = State::Text(missing);
        } else {
            self.next_string();
        }
    }

    fn next_string(&mut self) {
        self.state = if self.strings > 0 {
            State::Length
        } else {
            State::Field
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_counted(block: &[u8], fields: usize) {
        for cut in 0..=block.len() {
            let mut counter = FieldCounter::default();
            let found = counter.count(&block[..cut]) + counter.count(&block[cut..]);
            assert_eq!(found, fields, "{block:?} cut at {cut}");
        }
    }

    /// The examples of RFC 7541, appendix C.
    #[test]
    fn the_examples_of_the_standard_are_counted() {
        assert_counted(b"\x40\x0acustom-key\x0dcustom-header", 1);
        assert_counted(b"\x04\x0c/sample/path", 1);
        assert_counted(b"\x10\x08password\x06secret", 1);
        assert_counted(b"\x82\x86\x84\x41\x0fwww.example.com", 4);
        assert_counted(
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
                0x90, 0xf4, 0xff,
            ],
            4,
        );
    }

    #[test]
    fn long_numbers_and_empty_strings_are_counted() {
        // Literals with an indexed name and an empty value; indexes beyond 127; a long value.
        assert_counted(&[0x41, 0, 0x41, 0, 0x0f, 0x05, 0], 3);
        assert_counted(&[0xff, 0x80, 0x01, 0xbe, 0xbe], 3);
        let long = [
            &[0x40, 1, b'a', 0x7f, 0xe9, 0x06][..],
            &[0xbe; 1000],
            &[0x82],
        ]
        .concat();
        assert_counted(&long, 2);
    }
}
