//! Which streams of one kind are open, and which one ends for a new one.
//!
//! At the limit, the oldest stream of the connection with the most streams ends for a new one on
//! another connection, so a client that opens many keeps no other client out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::grpc::server::PeerId;

pub struct OpenStreams {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    newest: u64,
    /// Their numbers grow in the order in which they began.
    streams: BTreeMap<u64, Stream>,
}

struct Stream {
    peer: PeerId,
    must_end: CancellationToken,
}

impl OpenStreams {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Mutex::default(),
        }
    }

    /// Returns the number of the new stream, and what is cancelled when it must end. `None` if
    /// no other connection has more streams than this one.
    pub fn begin(&self, peer: PeerId) -> Option<(u64, CancellationToken)> {
        let mut open = self.open();
        let ending = if open.streams.len() < self.limit {
            None
        } else {
            let oldest = open.oldest_of_the_largest(peer)?;
            open.streams.remove(&oldest)
        };
        open.newest += 1;
        let (id, must_end) = (open.newest, CancellationToken::new());
        let stream = Stream {
            peer,
            must_end: must_end.clone(),
        };
        open.streams.insert(id, stream);
        drop(open);
        if let Some(stream) = ending {
            stream.must_end.cancel();
        }
        Some((id, must_end))
    }

    pub fn end(&self, id: u64) {
        self.open().streams.remove(&id);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn oldest_of_the_largest(&self, new: PeerId) -> Option<u64> {
        let mut counts = HashMap::<_, usize>::new();
        for stream in self.streams.values() {
            *counts.entry(stream.peer).or_default() += 1;
        }
        let most = *counts.values().max()?;
        let is_largest = |peer| counts.get(peer) == Some(&most);
        if is_largest(&new) {
            return None;
        }
        let mut streams = self.streams.iter();
        let oldest = streams.find(|(_, stream)| is_largest(&stream.peer));
        oldest.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: PeerId = PeerId(1);
    const ONE: PeerId = PeerId(2);
    const NEW: PeerId = PeerId(3);

    fn begin(streams: &OpenStreams, peer: PeerId) -> (u64, CancellationToken) {
        streams.begin(peer).expect("below the limit")
    }

    #[test]
    fn the_oldest_stream_of_the_connection_with_the_most_ends() {
        let streams = OpenStreams::new(3);
        let (_, one) = begin(&streams, ONE);
        let (_, older) = begin(&streams, MANY);
        let (_, newer) = begin(&streams, MANY);
        assert!(streams.begin(MANY).is_none());
        let (_, new) = begin(&streams, NEW);
        let ended = [one, older, newer, new].map(|stream| stream.is_cancelled());
        assert_eq!(ended, [false, true, false, false]);
    }

    #[test]
    fn a_stream_may_begin_when_another_has_ended() {
        let streams = OpenStreams::new(1);
        let (first, must_end) = begin(&streams, ONE);
        assert!(streams.begin(ONE).is_none());
        streams.end(first);
        begin(&streams, ONE);
        assert!(!must_end.is_cancelled());
    }
}
