//! The lanes of one thread: hashes that join, advance together, and leave.

use std::iter::zip;

use zeroize::Zeroize as _;

use crate::{Digest, Lane, Work, advance};

/// The most lanes of a thread. More lanes gain nothing: a core's load units are busy then. A
/// caller uses fewer if the first-level cache of the core holds fewer.
pub const LANES: usize = 8;

/// Up to [`LANES`] hashes, each with a tag that identifies it.
pub struct Lanes<T> {
    /// The first `live.len()` lanes are in use, the others are wiped.
    lanes: Box<[Lane; LANES]>,
    live: Vec<Live<T>>,
}

struct Live<T> {
    rounds_left: u32,
    /// How many of them follow the digest.
    padding: u32,
    /// All zeros until it is known.
    digest: Digest,
    tag: T,
}

impl<T> Live<T> {
    /// The rounds until the digest is known, or else until the lane is free.
    const fn rounds_to_next_stop(&self) -> u32 {
        match self.rounds_left.saturating_sub(self.padding) {
            0 => self.rounds_left,
            rounds => rounds,
        }
    }
}

impl<T> Default for Lanes<T> {
    #[expect(clippy::large_stack_arrays, reason = "34 KiB, once for each thread")]
    fn default() -> Self {
        Self {
            lanes: Box::new([Lane::IDLE; LANES]),
            live: Vec::with_capacity(LANES),
        }
    }
}

impl<T> Lanes<T> {
    #[must_use]
    pub const fn count(&self) -> usize {
        self.live.len()
    }

    pub fn rounds_left(&self) -> impl Iterator<Item = u32> {
        self.live.iter().map(|live| live.rounds_left)
    }

    /// Begins a hash in a free lane; there must be one.
    pub fn join(&mut self, work: &Work, tag: T) {
        self.lanes[self.live.len()].begin(work);
        self.live.push(Live {
            rounds_left: work.rounds(),
            padding: work.padding,
            digest: Digest::default(),
            tag,
        });
    }

    /// Computes up to `most` rounds in all lanes, and stops when the first digest is known or the
    /// first hash is complete. Returns the number of rounds.
    pub fn advance(&mut self, most: u32) -> u32 {
        let stops = self.live.iter().map(Live::rounds_to_next_stop);
        let rounds = stops.fold(most, u32::min);
        advance_first(self.live.len(), &mut self.lanes, rounds);
        for (live, lane) in zip(&mut self.live, self.lanes.iter()) {
            live.rounds_left -= rounds;
            if live.rounds_left == live.padding {
                live.digest = lane.finish();
            }
        }
        rounds
    }

    pub fn complete(&mut self) -> Vec<(T, Digest)> {
        let mut complete = Vec::new();
        while let Some(n) = self.live.iter().position(|live| live.rounds_left == 0) {
            let digest = self.live[n].digest;
            complete.push((self.remove(n), digest));
        }
        complete
    }

    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        while let Some(n) = self.live.iter().position(|live| !wanted(&live.tag)) {
            self.remove(n);
        }
    }

    fn remove(&mut self, n: usize) -> T {
        let tag = self.live.swap_remove(n).tag;
        self.lanes.swap(n, self.live.len());
        self.lanes[self.live.len()].zeroize();
        tag
    }
}

/// Not generic, so that it is compiled in this package, which the dev profile optimises.
fn advance_first(count: usize, lanes: &mut [Lane; LANES], rounds: u32) {
    match count {
        0 => {}
        1 => advance_chunk::<1>(lanes, rounds),
        2 => advance_chunk::<2>(lanes, rounds),
        3 => advance_chunk::<3>(lanes, rounds),
        4 => advance_chunk::<4>(lanes, rounds),
        5 => advance_chunk::<5>(lanes, rounds),
        6 => advance_chunk::<6>(lanes, rounds),
        7 => advance_chunk::<7>(lanes, rounds),
        _ => advance(lanes, rounds),
    }
}

fn advance_chunk<const N: usize>(lanes: &mut [Lane], rounds: u32) {
    advance::<N>(lanes.first_chunk_mut().expect("N is below LANES"), rounds);
}
