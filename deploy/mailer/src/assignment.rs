//! The partitions that the group gave to this process, with the work in them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
};

use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    delivery::Left,
    event::MailRequest,
    progress::{Position, Progress},
};

/// Events per partition of which copies are recognised. Copies follow soon after a fault.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub struct Assignment {
    /// Notified when there may be something to commit.
    pub changed: Notify,
    /// Held from choosing what to commit until it is committed: a newer position must not be
    /// overtaken by an older one.
    pub commits: Arc<tokio::sync::Mutex<()>>,
    partitions: Mutex<HashMap<i32, Partition>>,
}

struct Partition {
    progress: Progress,
    committed: Option<Position>,
    events: Events,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The newest events that asked for mails.
#[derive(Default)]
struct Events {
    known: HashSet<String>,
    by_age: VecDeque<String>,
}

impl Events {
    /// Returns whether it is new.
    fn insert(&mut self, id: &str) -> bool {
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.by_age.push_back(id.to_owned());
        if self.by_age.len() > REMEMBERED {
            let oldest = self.by_age.pop_front().expect("it is not empty");
            self.known.remove(&oldest);
        }
        true
    }
}

impl Assignment {
    fn partitions(&self) -> MutexGuard<'_, HashMap<i32, Partition>> {
        self.partitions.lock().expect("no panic while locked")
    }

    pub fn has(&self, partition: i32) -> bool {
        self.partitions().contains_key(&partition)
    }

    pub fn add(&self, partition: i32, position: &Position) {
        let added = Partition {
            progress: Progress::resume(position),
            committed: None,
            events: Events::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        self.partitions().insert(partition, added);
    }

    /// Mails in work.
    pub fn open(&self) -> usize {
        let partitions = self.partitions();
        let open = partitions.values().map(|it| it.progress.open());
        open.sum()
    }

    /// Notes that a record without work was read.
    pub fn skip(&self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions().get_mut(&partition)
            && partition.progress.begin(offset)
        {
            partition.progress.finish(offset);
        }
    }

    /// Runs the work of a record as a task, unless it was done before, or is a copy. The work
    /// gets a token that is cancelled when the partition goes, and returns whether it is done.
    pub fn run<F>(
        self: &Arc<Self>,
        (number, offset): (i32, i64),
        request: &MailRequest,
        work: impl FnOnce(bool, CancellationToken) -> F,
    ) where
        F: Future<Output = Left> + Send + 'static,
    {
        let mut partitions = self.partitions();
        let Some(partition) = partitions.get_mut(&number) else {
            return;
        };
        if !partition.progress.begin(offset) {
            return;
        }
        if !partition.events.insert(&request.event_id) {
            partition.progress.finish(offset);
            return;
        }
        let was_claimed = partition.progress.was_claimed(offset);
        let work = work(was_claimed, partition.stop.clone());
        let assignment = Arc::clone(self);
        partition.tasks.spawn(async move {
            match work.await {
                Left::Nothing => assignment.finish(number, offset),
                Left::Claimed => assignment.leave_claimed(number, offset),
                Left::All => {}
            }
        });
    }

    fn leave_claimed(&self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions().get_mut(&partition) {
            partition.progress.leave_claimed(offset);
        }
    }

    fn finish(&self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions().get_mut(&partition) {
            partition.progress.finish(offset);
        }
        self.changed.notify_one();
    }

    /// What is to commit, noted as committed.
    pub fn to_commit(&self, topic: &str) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (&number, partition) in self.partitions().iter_mut() {
            partition.add_to(&mut list, topic, number);
        }
        list
    }

    /// These positions are to commit again.
    pub fn commit_failed(&self, list: &TopicPartitionList) {
        let mut partitions = self.partitions();
        for element in list.elements() {
            if let Some(partition) = partitions.get_mut(&element.partition()) {
                partition.committed = None;
            }
        }
    }

    /// Stops the work of these partitions. Attempts that have begun go on: wait for them.
    pub fn stop(&self, numbers: &[i32]) -> Vec<TaskTracker> {
        let partitions = self.partitions();
        let stopped = numbers.iter().filter_map(|it| partitions.get(it));
        stopped.map(Partition::stop).collect()
    }

    /// Forgets these partitions, and returns what is to commit.
    pub fn remove(&self, topic: &str, numbers: &[i32]) -> TopicPartitionList {
        let mut partitions = self.partitions();
        let mut list = TopicPartitionList::new();
        for &number in numbers {
            if let Some(mut partition) = partitions.remove(&number) {
                partition.committed = None; // a commit that is under way may fail
                partition.add_to(&mut list, topic, number);
            }
        }
        list
    }
}

impl Partition {
    fn stop(&self) -> TaskTracker {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.clone()
    }

    fn add_to(&mut self, list: &mut TopicPartitionList, topic: &str, number: i32) {
        let position = self.progress.position();
        if self.committed.as_ref() == Some(&position) {
            return;
        }
        let mut added = list.add_partition(topic, number);
        let set = added.set_offset(Offset::Offset(position.offset));
        set.expect("an offset of a record is valid");
        added.set_metadata(&position.metadata);
        self.committed = Some(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_events_are_remembered() {
        let mut events = Events::default();
        assert!(events.insert("first") && !events.insert("first"));
        assert!((0..REMEMBERED).all(|n| events.insert(&n.to_string())));
        assert!(events.insert("first"));
        assert_eq!(events.known.len(), REMEMBERED);
    }
}
