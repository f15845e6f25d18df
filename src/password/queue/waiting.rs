//! The jobs that wait, and the order in which they begin.

use std::{collections::VecDeque, iter::from_fn};

use super::{Job, Priority, Purpose, job::Class, shares::Shares};
use crate::model::UserId;
#[cfg(test)]
use crate::password::Began;

/// The jobs of one class, with their ids.
type Jobs = VecDeque<(u64, Job)>;

#[derive(Default)]
pub(super) struct WaitingJobs {
    known: Jobs,
    others: Jobs,
    shares: Shares,
    next_id: u64,
}

impl WaitingJobs {
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.others.len()
    }

    /// The first-class jobs of an account.
    pub(super) fn known_of(&self, user_id: UserId) -> usize {
        let purpose = Purpose::Answer(Priority::KnownDevice(user_id));
        let jobs = self.known.iter();
        jobs.filter(|(_, job)| job.purpose == purpose).count()
    }

    /// Appends a job to its class. The id is for [`WaitingJobs::remove`].
    pub(super) fn push(&mut self, job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.class_mut(job.purpose.class()).push_back((id, job));
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        for jobs in [&mut self.known, &mut self.others] {
            jobs.retain(|(waiting, _)| *waiting != id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.others.clear();
    }

    /// Takes the next job, which has begun then.
    pub(super) fn begin_next(&mut self) -> Option<Job> {
        let first = |jobs: &Jobs| jobs.front().map(|(_, job)| job.work.rounds());
        let next = (self.shares).next(first(&self.known), first(&self.others))?;
        let (_, job) = self.class_mut(next).pop_front()?;
        job.began.set();
        Some(job)
    }

    /// The rounds of the jobs that come before one that is appended now, in their order.
    pub(super) fn rounds_before(&self, rounds: u32, class: Class) -> impl Iterator<Item = u32> {
        let jobs_of = |other| {
            let waiting = self.class(other).iter().map(|(_, job)| job.work.rounds());
            let new = (other == class).then_some(rounds);
            waiting.chain(new).peekable()
        };
        let mut known = jobs_of(Class::KnownDevices);
        let mut others = jobs_of(Class::Others);
        let mut shares = self.shares.clone();
        from_fn(move || {
            let next = shares.next(known.peek().copied(), others.peek().copied())?;
            let jobs = match next {
                Class::KnownDevices => &mut known,
                Class::Others => &mut others,
            };
            let rounds = jobs.next()?;
            let is_new = next == class && jobs.peek().is_none();
            (!is_new).then_some(rounds)
        })
    }

    const fn class(&self, class: Class) -> &Jobs {
        match class {
            Class::KnownDevices => &self.known,
            Class::Others => &self.others,
        }
    }

    const fn class_mut(&mut self, class: Class) -> &mut Jobs {
        match class {
            Class::KnownDevices => &mut self.known,
            Class::Others => &mut self.others,
        }
    }
}

#[cfg(test)]
impl WaitingJobs {
    pub(super) const fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn last_began(&self, class: Class) -> Began {
        let (_, job) = self.class(class).back().unwrap();
        job.began.clone()
    }
}
