//! The list of leaked passwords: a downloaded Have-I-Been-Pwned file.
//!
//! The file has one line for each password, `SHA-1:count`, ordered by hash, and a size of tens
//! of gigabytes. A binary search over byte offsets finds a hash with about thirty short reads
//! and needs no index in memory. The file is opened once, so a new file in its place is used
//! after a restart. A malformed line or a file that became shorter is an error of one search.

use std::{cmp::Ordering, fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// SHA-1, a colon, a count of up to 20 digits, CR and LF.
const LONGEST_LINE: usize = 40 + 1 + 20 + 2;
/// Opening checks all lines in a block at each of this many offsets.
const SAMPLES: u64 = 256;
const BLOCK: u64 = 4096;

type Sha1 = [u8; 20];

#[derive(Debug)]
pub struct Blocklist {
    file: File,
    length: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BlocklistError {
    #[error("cannot read the list of leaked passwords")]
    Io(#[from] io::Error),
    /// A directory or a pipe.
    #[error("is not a file")]
    NoFile,
    #[error("is empty")]
    Empty,
    #[error("holds a line that is not SHA-1:count")]
    Malformed,
    #[error("is not ordered by hash")]
    Unordered,
}

impl Blocklist {
    /// Opens the list and checks that the lines at its start, at its end and at 255 offsets
    /// between are well-formed and in order. A list of up to a megabyte is checked as a whole;
    /// to read all of a large one would take minutes.
    pub fn open(path: &Path) -> Result<Self, BlocklistError> {
        // Opening a pipe would wait for its writer.
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

    /// Whether the hash is on the list. Blocks.
    pub fn contains(&self, hash: &Sha1) -> Result<bool, BlocklistError> {
        // Both are the start of a line or the end of the file. Lines before `low` have lower
        // hashes, lines from `high` on have higher ones.
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

    /// The hash in the line that begins at `offset`, and the offset of the next line.
    fn line(&self, offset: u64) -> Result<(Sha1, u64), BlocklistError> {
        let end = self.end_of_line(offset)?;
        let length = usize::try_from(end - offset).expect("a line is at most LONGEST_LINE long");
        let mut line = [0; LONGEST_LINE];
        let line = &mut line[..length];
        self.file.read_exact_at(line, offset)?;
        Ok((parse(line).ok_or(BlocklistError::Malformed)?, end))
    }

    /// The end of the line that contains `offset`.
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

/// The hash in a line. The last line may lack its line break.
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
