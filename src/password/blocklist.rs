//! Known-bad passwords, offline: a Have-I-Been-Pwned download, searched where it lies.
//!
//! The file has one line for each password, `SHA-1:count`, ordered by hash, and tens of
//! gigabytes. It is bisected by byte offsets: some thirty short reads, no index, no memory.
//! It is opened once: a file that takes its place is seen after a restart. A line that is
//! none, or a file that became shorter, is an error of that one search.

use std::{cmp::Ordering, fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// SHA-1, a colon, a count of up to 20 digits, CR and LF.
const LONGEST_LINE: usize = 40 + 1 + 20 + 2;
/// What is looked at when it is opened: all lines in a block at this many places.
const SAMPLES: u64 = 256;
const BLOCK: u64 = 4096;

type Sha1 = [u8; 20];

/// The list.
#[derive(Debug)]
pub struct Blocklist {
    file: File,
    length: u64,
}

/// Why a file cannot be the list, or not be searched.
#[derive(Debug, thiserror::Error)]
pub enum BlocklistError {
    /// It cannot be read.
    #[error("cannot read the list of leaked passwords")]
    Io(#[from] io::Error),
    /// A folder, a pipe, ..
    #[error("is not a file")]
    NoFile,
    /// An empty list would protect nobody.
    #[error("is empty")]
    Empty,
    /// A line of something else.
    #[error("holds a line that is not SHA-1:count")]
    Malformed,
    /// Lines in another order.
    #[error("is not ordered by hash")]
    Unordered,
}

impl Blocklist {
    /// Opens the list and looks whether it is one: the lines at its beginning, at its end and
    /// at 255 places between must be well formed and in order. (So a list of up to a megabyte
    /// is checked as a whole; to read all of a large one would take minutes.)
    pub fn open(path: &Path) -> Result<Self, BlocklistError> {
        // To open a pipe would wait for its writer.
        if !path.metadata()?.is_file() {
            return Err(BlocklistError::NoFile);
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Err(BlocklistError::Empty);
        }
        let list = Self { file, length };
        list.check()?;
        Ok(list)
    }

    /// Whether the hash is on it. Blocks.
    pub fn contains(&self, hash: &Sha1) -> Result<bool, BlocklistError> {
        // Each is where a line begins, or the end. What lies before `low` is lower than the
        // hash, what lies from `high` on is higher.
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = self.end_of_line(low.midpoint(high))?;
            let at = if middle < high { middle } else { low };
            let (found, next) = self.line(at)?;
            match found.cmp(hash) {
                Ordering::Equal => return Ok(true),
                Ordering::Less => low = next,
                Ordering::Greater => high = at,
            }
        }
        Ok(false)
    }

    fn check(&self) -> Result<(), BlocklistError> {
        let last = self.length.saturating_sub(BLOCK);
        let (mut position, mut previous) = (0, [0; 20]);
        for block in (0..SAMPLES).map(|n| last / SAMPLES * n).chain([last]) {
            if block > position {
                position = self.end_of_line(block)?;
            }
            while position < self.length.min(block + BLOCK) {
                let (hash, next) = self.line(position)?;
                if hash < previous {
                    return Err(BlocklistError::Unordered);
                }
                (previous, position) = (hash, next);
            }
        }
        Ok(())
    }

    /// The hash in the line that begins at `offset`, and where the next one begins.
    fn line(&self, offset: u64) -> Result<(Sha1, u64), BlocklistError> {
        let end = self.end_of_line(offset)?;
        let length = usize::try_from(end - offset).expect("no longer than the longest");
        let mut line = [0; LONGEST_LINE];
        let line = &mut line[..length];
        self.file.read_exact_at(line, offset)?;
        Ok((parse(line).ok_or(BlocklistError::Malformed)?, end))
    }

    /// Where the line that `offset` is in ends.
    fn end_of_line(&self, offset: u64) -> Result<u64, BlocklistError> {
        let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
        let mut bytes = [0; LONGEST_LINE];
        let bytes = &mut bytes[..LONGEST_LINE.min(left)];
        self.file.read_exact_at(bytes, offset)?;
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(offset + end as u64 + 1),
            None if bytes.len() == left => Ok(self.length),
            None => Err(BlocklistError::Malformed),
        }
    }
}

/// The hash in a line. The last line needs no end.
fn parse(line: &[u8]) -> Option<Sha1> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (digits, rest) = line.split_at_checked(40)?;
    let count = rest.strip_prefix(b":")?;
    if count.is_empty() || !count.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = 16 * hex(pair[0])? + hex(pair[1])?;
    }
    Some(hash)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests;
