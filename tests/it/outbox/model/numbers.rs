//! Counts of what happened in all cases.

use crate::harness::Backend;

/// How much happened. A test in which too little happens proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    cases: usize,
    records: usize,
    duplicates: usize,
    pub rolled_back: usize,
    pub late_commits: usize,
    pub writer_crashes: usize,
    pub poller_crashes: usize,
    pub overtaken: usize,
    pub arrived_late: usize,
    pub parked: usize,
    /// Pairs of events of a user whose ids are in the other order than their versions.
    pub reordered: usize,
}

impl Numbers {
    /// Adds one case.
    pub fn add(&mut self, other: &Self, records: usize, duplicates: usize) {
        self.cases += 1;
        self.records += records;
        self.duplicates += duplicates;
        self.rolled_back += other.rolled_back;
        self.late_commits += other.late_commits;
        self.writer_crashes += other.writer_crashes;
        self.poller_crashes += other.poller_crashes;
        self.overtaken += other.overtaken;
        self.arrived_late += other.arrived_late;
        self.parked += other.parked;
        self.reordered += other.reordered;
    }

    pub fn assert_that_much_happened(&self, backend: Backend) {
        let Self {
            cases,
            late_commits,
            writer_crashes,
            ..
        } = *self;
        let everywhere = [
            self.duplicates,
            self.rolled_back,
            self.poller_crashes,
            self.overtaken,
            self.arrived_late,
            self.parked,
        ];
        assert!(cases == 0 || !everywhere.contains(&0), "{self:?}");
        if backend == Backend::Postgres {
            assert!(
                cases == 0 || (late_commits > 0 && writer_crashes > 0),
                "{self:?}"
            );
        }
    }
}
