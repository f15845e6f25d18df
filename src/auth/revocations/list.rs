//! The revocations that a replica has read. Pure: the caller reads, and gives the time.

use std::collections::{HashMap, VecDeque};

use super::reader::FAR_BACK;
use crate::model::{Cursor, RecordedRevocation, Revocation, RevocationId, Timestamp};

/// The revocations of a page: they fit into the answers that a connection may have unsent.
const PAGE: usize = 256;
/// The most revocations that are looked at for a page, while the list is locked.
const LOOKED_AT: usize = 10_000;

/// The revocations that hold, in the order in which they were read.
#[derive(Default)]
pub(super) struct List {
    entries: VecDeque<Entry>,
    /// The revocations that later reads may find again, and when they were recorded.
    recent: HashMap<RevocationId, Timestamp>,
    /// The number of the next entry.
    next: u64,
    read: Option<Read>,
}

/// The last complete read.
#[derive(Clone, Copy)]
pub(super) struct Read {
    /// Reads are numbered in the order in which they begin.
    pub(super) number: u64,
    /// When it began, by the clock of the database.
    pub(super) at: Timestamp,
    /// The time by the clock of the database or of this replica: the one that is behind. A
    /// revocation that has expired then has expired for all.
    pub(super) now: Timestamp,
}

struct Entry {
    number: u64,
    recorded_at: Timestamp,
    revocation: Revocation,
}

/// A place in the list, and which of the revocations after it are wanted.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    number: u64,
    recorded_after: Option<Timestamp>,
}

pub struct Page {
    pub revoked: Vec<Revocation>,
    /// At the end of the list.
    pub end: Option<Cursor>,
}

impl List {
    pub(super) fn read_at(&self) -> Option<Timestamp> {
        self.read.map(|read| read.at)
    }

    /// Adds those that are new, and returns when they were recorded.
    pub(super) fn add(&mut self, found: Vec<RecordedRevocation>, now: Timestamp) -> Vec<Timestamp> {
        let mut new = Vec::new();
        for found in found {
            // Earlier ones are not found again, but for a few, which do no harm.
            let is_recent = found.recorded_at > now - FAR_BACK;
            if is_recent && self.recent.insert(found.id, found.recorded_at).is_some() {
                continue;
            }
            new.push(found.recorded_at);
            self.entries.push_back(Entry {
                number: self.next,
                recorded_at: found.recorded_at,
                revocation: found.revocation,
            });
            self.next += 1;
        }
        new
    }

    pub(super) const fn complete(&mut self, read: Read) {
        self.read = Some(read);
    }

    /// How many were ever added.
    pub(super) const fn count(&self) -> u64 {
        self.next
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Drops what no watcher needs, and no later read finds.
    pub(super) fn forget(&mut self) {
        let Some(Read { at, now, .. }) = self.read else {
            return;
        };
        self.entries.retain(|entry| entry.revocation.holds(now));
        self.recent
            .retain(|_, recorded_at| *recorded_at > at - FAR_BACK * 2);
        self.entries.shrink_to(self.entries.len() * 2);
        self.recent.shrink_to(self.recent.len() * 2);
    }

    /// The place of a watcher that has this cursor. `None` if the cursor is of no use here.
    pub(super) fn find(&self, cursor: Cursor) -> Option<Place> {
        let (last, read_at) = (self.read_at()?, cursor.read_at());
        let is_known = read_at <= last + FAR_BACK && last.since(read_at) <= Cursor::LONGEST;
        is_known.then_some(Place {
            number: 0,
            recorded_after: Some(read_at - FAR_BACK),
        })
    }

    pub(super) fn page(&self, place: &mut Place) -> Page {
        let mut revoked = Vec::new();
        let begin = self
            .entries
            .partition_point(|entry| entry.number < place.number);
        for entry in self.entries.range(begin..).take(LOOKED_AT) {
            if revoked.len() == PAGE {
                break;
            }
            place.number = entry.number + 1;
            let is_new = place
                .recorded_after
                .is_none_or(|after| entry.recorded_at > after);
            if is_new
                && self
                    .read
                    .is_none_or(|read| entry.revocation.holds(read.now))
            {
                revoked.push(entry.revocation);
            }
        }
        let is_end = self
            .entries
            .back()
            .is_none_or(|last| last.number < place.number);
        if is_end {
            // All that is read from now on is new, whenever it was recorded.
            *place = Place {
                number: self.next,
                recorded_after: None,
            };
        }
        let end = self.read_at().filter(|_| is_end).map(Cursor::new);
        Page { revoked, end }
    }
}

#[cfg(test)]
mod tests;
