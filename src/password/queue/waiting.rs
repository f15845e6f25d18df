//! The jobs that wait, and the order in which they begin.

use std::{collections::VecDeque, iter::from_fn};

use super::{Job, Priority, shares::Shares};
#[cfg(test)]
use crate::password::Began;

/// The jobs of one class of callers, with their ids.
type Class = VecDeque<(u64, Job)>;

#[derive(Default)]
pub(super) struct WaitingJobs {
    known: Class,
    others: Class,
    shares: Shares,
    next_id: u64,
}

impl WaitingJobs {
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.others.len()
    }

    /// Appends a job to its class. The id is for [`WaitingJobs::remove`].
    pub(super) fn push(&mut self, job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.class_mut(job.purpose.priority()).push_back((id, job));
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        for class in [&mut self.known, &mut self.others] {
            class.retain(|(waiting, _)| *waiting != id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.others.clear();
    }

    /// Takes the next job, which has begun then.
    pub(super) fn begin_next(&mut self) -> Option<Job> {
        let first = |class: &Class| class.front().map(|(_, job)| job.work.rounds());
        let next = (self.shares).next(first(&self.known), first(&self.others))?;
        let (_, job) = self.class_mut(next).pop_front()?;
        job.began.set();
        Some(job)
    }

    /// The rounds of the jobs that come before one that is appended now, in their order.
    pub(super) fn rounds_before(
        &self,
        rounds: u32,
        priority: Priority,
    ) -> impl Iterator<Item = u32> {
        let jobs_of = |class| {
            let waiting = self.class(class).iter().map(|(_, job)| job.work.rounds());
            let new = (class == priority).then_some(rounds);
            waiting.chain(new).peekable()
        };
        let mut known = jobs_of(Priority::KnownDevice);
        let mut others = jobs_of(Priority::Other);
        let mut shares = self.shares.clone();
        from_fn(move || {
            let class = shares.next(known.peek().copied(), others.peek().copied())?;
            let jobs = match class {
                Priority::KnownDevice => &mut known,
                Priority::Other => &mut others,
            };
            let next = jobs.next()?;
            let is_new = class == priority && jobs.peek().is_none();
            (!is_new).then_some(next)
        })
    }

    const fn class(&self, priority: Priority) -> &Class {
        match priority {
            Priority::KnownDevice => &self.known,
            Priority::Other => &self.others,
        }
    }

    const fn class_mut(&mut self, priority: Priority) -> &mut Class {
        match priority {
            Priority::KnownDevice => &mut self.known,
            Priority::Other => &mut self.others,
        }
    }
}

#[cfg(test)]
impl WaitingJobs {
    pub(super) const fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn last_began(&self, priority: Priority) -> Began {
        let (_, job) = self.class(priority).back().unwrap();
        job.began.clone()
    }
}
