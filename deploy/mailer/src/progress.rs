//! Knows which records of a partition are done.
//!
//! Mails are not always done in their order, since one may wait for its recipient's server. Kafka
//! keeps one offset for a group and partition: the first record that is not done. The others are
//! in the metadata that Kafka keeps beside the offset, so that a restart sends no mail again that
//! was sent after a waiting one. The metadata also says which open records were claimed: a further
//! claim of one must not follow at once, since there are three.

use std::{collections::BTreeSet, fmt::Write as _};

/// Kafka's limit is 4,096 bytes (`offset.metadata.max.bytes`).
const LONGEST_METADATA: usize = 4_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All records below it are done, except those of the next two fields.
    end: i64,
    /// Records in work.
    open: BTreeSet<i64>,
    /// Records that an earlier owner of the partition left open. Kafka delivers them again.
    left: BTreeSet<i64>,
    /// Those of the two that were claimed by a mailer that has stopped.
    claimed: BTreeSet<i64>,
}

/// What Kafka keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub offset: i64,
    /// The distance to the end, then the open records, each as its distance to the one before, and
    /// `c` if it was claimed. Empty if the offset is the end. Another tool may have written other text.
    pub metadata: String,
}

impl Position {
    /// The beginning if the log ends before this position: Kafka has lost records, and has given
    /// their offsets to other ones since, or will.
    #[must_use]
    pub fn within(self, end_of_log: i64) -> Self {
        if Progress::resume(&self).end <= end_of_log {
            return self;
        }
        eprintln!("Kafka has lost records: the others are read again");
        Self::default()
    }
}

impl Progress {
    #[must_use]
    pub fn resume(position: &Position) -> Self {
        let mut parts = position.metadata.split(',');
        let Some(Ok(length)) = parts.next().map(str::parse::<u32>) else {
            let end = position.offset;
            return Self {
                end,
                ..Self::default()
            };
        };
        let mut at = position.offset;
        let (mut left, mut claimed) = (BTreeSet::new(), BTreeSet::new());
        for part in parts {
            let (distance, is_claimed) = match part.strip_suffix('c') {
                Some(distance) => (distance, true),
                None => (part, false),
            };
            let Ok(distance) = distance.parse::<u32>() else {
                break;
            };
            at = at.saturating_add(distance.into());
            left.insert(at);
            if is_claimed {
                claimed.insert(at);
            }
        }
        Self {
            left,
            claimed,
            end: position.offset.saturating_add(length.into()),
            open: BTreeSet::new(),
        }
    }

    /// Returns whether there is work to do for this record. If so, it is open until `finish`.
    pub fn begin(&mut self, offset: i64) -> bool {
        let is_new = offset >= self.end || self.left.contains(&offset);
        // Records come in order: what Kafka did not deliver again is no longer there.
        self.left = self.left.split_off(&(offset + 1));
        self.end = self.end.max(offset + 1);
        is_new && self.open.insert(offset)
    }

    pub fn finish(&mut self, offset: i64) {
        self.open.remove(&offset);
        self.claimed.remove(&offset);
    }

    /// Leaves an open record that was claimed to the next mailer.
    pub fn leave_claimed(&mut self, offset: i64) {
        self.claimed.insert(offset);
    }

    #[must_use]
    pub fn was_claimed(&self, offset: i64) -> bool {
        self.claimed.contains(&offset)
    }

    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What to commit. If the open records do not fit, the end is earlier: the records behind it
    /// are done again after a restart.
    #[must_use]
    pub fn position(&self) -> Position {
        let open: BTreeSet<_> = self.open.union(&self.left).copied().collect();
        let Some(&offset) = open.first() else {
            let offset = self.end;
            return Position {
                offset,
                ..Position::default()
            };
        };
        let mut distances = String::new();
        let (mut end, mut before) = (self.end, offset);
        for at in open {
            if distances.len() > LONGEST_METADATA {
                end = at;
                break;
            }
            let claimed = if self.was_claimed(at) { "c" } else { "" };
            write!(distances, ",{}{claimed}", at - before).expect("a String takes all text");
            before = at;
        }
        let metadata = format!("{}{distances}", end - offset);
        Position { offset, metadata }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: i64, metadata: &str) -> Position {
        let metadata = metadata.to_owned();
        Position { offset, metadata }
    }

    #[test]
    fn done_records_move_the_offset() {
        let mut progress = Progress::resume(&position(5, ""));
        for offset in 5..8 {
            assert!(progress.begin(offset));
            progress.finish(offset);
        }
        assert_eq!(progress.position(), position(8, ""));
    }

    #[test]
    fn an_open_record_holds_the_offset_and_the_done_ones_are_remembered() {
        let mut progress = Progress::default();
        assert!((100..110).all(|offset| progress.begin(offset)));
        assert_eq!(progress.open(), 10);
        for offset in [100, 102, 103, 105, 106, 107, 108, 109] {
            progress.finish(offset);
        }
        assert_eq!(progress.position(), position(101, "9,0,3"));

        let mut next = Progress::resume(&progress.position());
        let begun: Vec<_> = (101..112).filter(|&offset| next.begin(offset)).collect();
        assert_eq!(begun, [101, 104, 110, 111]);
    }

    #[test]
    fn a_claimed_record_is_known_to_the_next_mailers_until_it_is_done() {
        let mut progress = Progress::default();
        assert!((100..104).all(|offset| progress.begin(offset)));
        progress.finish(101);
        progress.leave_claimed(102);
        assert_eq!(progress.position(), position(100, "4,0,2c,1"));

        let mut next = Progress::resume(&progress.position());
        assert_eq!(next.position(), progress.position());
        for offset in [100, 102, 103] {
            assert!(next.begin(offset));
            assert_eq!(next.was_claimed(offset), offset == 102);
        }
        next.finish(102);
        assert_eq!(next.position(), position(100, "4,0,3"));
    }

    #[test]
    fn a_record_that_is_delivered_twice_is_begun_once() {
        let mut progress = Progress::default();
        assert!(progress.begin(7));
        assert!(!progress.begin(7));
        progress.finish(7);
        assert!(!progress.begin(7));
    }

    #[test]
    fn until_they_are_read_again_left_records_stay_in_the_position() {
        let left = position(101, "9,0,3");
        assert_eq!(Progress::resume(&left).position(), left);
        let mut progress = Progress::resume(&left);
        // Kafka has deleted 101 to 103 meanwhile.
        assert!(progress.begin(104));
        progress.finish(104);
        assert_eq!(progress.position(), position(110, ""));
    }

    #[test]
    fn a_position_behind_the_end_of_the_log_is_forgotten() {
        for (offset, metadata) in [(110, ""), (101, "9,0,3")] {
            let left = position(offset, metadata);
            assert_eq!(left.clone().within(110), left);
            assert_eq!(left.within(109), Position::default());
        }
    }

    #[test]
    fn foreign_metadata_is_ignored() {
        for text in ["", "x", "-3,1", "a comment of another tool", "99999999999"] {
            let mut progress = Progress::resume(&position(5, text));
            assert!(progress.begin(5), "{text}");
        }
    }

    #[test]
    fn open_records_that_do_not_fit_are_repeated_and_not_lost() {
        let mut progress = Progress::default();
        let open: Vec<_> = (0..2_000).map(|n| n * 1_000_000).collect();
        assert!(open.iter().all(|&offset| progress.begin(offset)));
        let position = progress.position();
        assert!(position.metadata.len() < 4_096);
        let mut next = Progress::resume(&position);
        assert!(open.iter().all(|&offset| next.begin(offset)));
    }
}
