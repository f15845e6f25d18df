//! A search for secrets in the memory of another process, in a log or in a database.
//!
//! Each secret is cut into pieces of 16 bytes, in every form in which a copy may exist, so the
//! search also finds a copy that was overwritten in part.

use std::{
    cell::OnceCell,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
};

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use super::{hex_of, skip};

const PIECE: usize = 16;

/// The secrets that are searched for.
#[derive(Default)]
pub struct Needles {
    pieces: Vec<[u8; PIECE]>,
    /// The index in `names` of each piece.
    owners: Vec<usize>,
    names: Vec<String>,
    /// Made at the first search.
    search: OnceCell<AhoCorasick>,
}

impl Needles {
    /// Adds a secret of at least 16 bytes: the bytes, their hex and base64, and the words that
    /// bcrypt makes from them.
    pub fn add(&mut self, name: impl Into<String>, secret: &[u8]) {
        let hex = hex_of(secret);
        let (words, _) = secret.as_chunks::<4>();
        let words = words
            .iter()
            .flat_map(|&word| u32::from_be_bytes(word).to_ne_bytes());
        let words: Vec<_> = words.collect();
        self.names.push(name.into());
        self.search = OnceCell::new();
        for form in [
            secret,
            &words,
            hex.as_bytes(),
            hex.to_uppercase().as_bytes(),
            BASE64_STANDARD.encode(secret).as_bytes(),
            BASE64_URL_SAFE_NO_PAD.encode(secret).as_bytes(),
        ] {
            let last = form.len() - PIECE;
            for start in [0, last / 2, last] {
                let piece: [u8; PIECE] = form[start..start + PIECE].try_into().expect("16");
                self.pieces.push(piece);
                self.owners.push(self.names.len() - 1);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The names of the secrets in `haystack`, each with the bytes around it.
    pub fn found_in(&self, haystack: &[u8]) -> Vec<(&str, String)> {
        let search = self
            .search
            .get_or_init(|| AhoCorasick::new(&self.pieces).expect("few pieces"));
        let found = search.find_overlapping_iter(haystack).map(|piece| {
            let name = &self.names[self.owners[piece.pattern().as_usize()]];
            let around = piece.start().saturating_sub(48)..haystack.len().min(piece.start() + 96);
            (name.as_str(), haystack[around].escape_ascii().to_string())
        });
        found.collect()
    }
}

/// All readable memory of a process, each region with its name. The process is not dumpable, so
/// this needs root or `sudo`. `None` without them; then the test was skipped.
pub fn memory_of(process: u32) -> Option<Vec<(String, Vec<u8>)>> {
    let maps = format!("/proc/{process}/maps");
    let Some(maps) = fs::read(&maps).ok().or_else(|| sudo(&["cat", &maps])) else {
        skip("no look into the memory of a process: neither root nor sudo without a password");
        return None;
    };
    let maps = String::from_utf8(maps).expect("maps are text");
    let regions = maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (addresses, mode) = (fields.next()?, fields.next()?);
        let name = fields.nth(3).unwrap_or("anonymous");
        // These pages belong to the kernel.
        let readable = mode.starts_with('r') && !name.starts_with("[v");
        let (start, end) = addresses.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let bytes = readable.then(|| read(process, start, end - start))?;
        Some((format!("{name} {mode} {addresses}"), bytes))
    });
    Some(regions.collect())
}

/// Empty if the region has gone.
fn read(process: u32, start: u64, length: u64) -> Vec<u8> {
    let memory = format!("/proc/{process}/mem");
    if let Ok(file) = File::open(&memory) {
        let mut bytes = vec![0; usize::try_from(length).expect("64 bits")];
        return match file.read_exact_at(&mut bytes, start) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        };
    }
    let dd = [
        "dd",
        &format!("if={memory}"),
        &format!("skip={start}"),
        &format!("count={length}"),
        "iflag=skip_bytes,count_bytes,fullblock",
        "bs=1M",
        "status=none",
    ];
    sudo(&dd).unwrap_or_default()
}

fn sudo(command: &[&str]) -> Option<Vec<u8>> {
    let mut sudo = Command::new("sudo");
    let output = sudo.arg("-n").args(command).output().ok()?;
    output.status.success().then_some(output.stdout)
}
