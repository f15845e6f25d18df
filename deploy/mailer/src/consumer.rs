//! Reads the topic in a consumer group, for ever.
//!
//! Any number of mailers may run: the group shares the partitions among them. Faults of Kafka are
//! librdkafka's to repair, and only reported here.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, bail};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
};
use tokio::{
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    assignment::Assignment,
    backoff::{self, Backoff},
    delivery::Delivery,
    event,
    group::{self, Group},
    progress::Position,
    settings,
};

/// Mails in work at one time, without those that were put off. Reading pauses at this number.
const MAX_OPEN: usize = 500;

/// Before a failed commit is made again.
const COMMIT_PAUSE: Duration = Duration::from_secs(1);

const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

/// More than a running attempt and the last commit need.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(25);

struct Consumer {
    kafka: Arc<StreamConsumer<Group>>,
    assignment: Arc<Assignment>,
    delivery: Arc<Delivery>,
    topic: String,
    is_paused: bool,
}

/// Returns when `stop` is cancelled, with all progress committed.
pub async fn run(
    settings: &settings::Kafka,
    delivery: Delivery,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let assignment = Arc::<Assignment>::default();
    let mut consumer = Consumer {
        kafka: Arc::new(group::subscribe(settings, &assignment)?),
        assignment,
        delivery: Arc::new(delivery),
        topic: settings.topic.clone(),
        is_paused: false,
    };
    let result = consumer.read(&stop).await;
    let closed = timeout(CLOSE_TIMEOUT, consumer.close()).await;
    closed.context("Kafka did not let the consumer leave in time")??;
    result
}

impl Consumer {
    async fn read(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let kafka = Arc::clone(&self.kafka);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                record = kafka.recv() => match record {
                    Ok(record) => self.take(&record, stop).await,
                    Err(error) => self.report(&error)?,
                },
                () = self.assignment.changed.notified() => {}
            }
            self.commit();
            self.pause_or_resume()?;
        }
    }

    /// Begins the work of a record. It must not wait long: the group needs `recv`.
    async fn take(&self, record: &BorrowedMessage<'_>, stop: &CancellationToken) {
        let (partition, offset) = (record.partition(), record.offset());
        if !self.assignment.has(partition) && !self.add(partition, stop).await {
            return;
        }
        match event::mail_request(record.payload().unwrap_or_default()) {
            Ok(None) => self.assignment.skip(partition, offset),
            Ok(Some(request)) => {
                let delivery = Arc::clone(&self.delivery);
                let id = request.request_id.clone();
                let work = |was_claimed, stop| async move {
                    delivery.deliver(&id, was_claimed, &stop).await
                };
                self.assignment.run((partition, offset), &request, work);
            }
            Err(why) => {
                eprintln!("record {offset} of partition {partition} is skipped: {why}");
                self.assignment.skip(partition, offset);
            }
        }
    }

    /// Adds a partition at its first record. Returns false if it was stopped.
    async fn add(&self, partition: i32, stop: &CancellationToken) -> bool {
        let mut backoff = Backoff::default();
        loop {
            match self.position(partition).await {
                Ok(position) => {
                    self.assignment.add(partition, &position);
                    return true;
                }
                Err(error) => eprintln!("Kafka: cannot read the group's progress: {error}"),
            }
            let pause = stop
                .run_until_cancelled(sleep(backoff.pause(backoff::FAULT)))
                .await;
            if pause.is_none() {
                return false;
            }
        }
    }

    /// What the group has committed for a partition.
    async fn position(&self, partition: i32) -> KafkaResult<Position> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let (kafka, topic) = (Arc::clone(&self.kafka), self.topic.clone());
        let asked = spawn_blocking(move || {
            let (_, end) = kafka.fetch_watermarks(&topic, partition, KAFKA_TIMEOUT)?;
            let committed = kafka.committed_offsets(list, KAFKA_TIMEOUT)?;
            KafkaResult::Ok((committed, end))
        });
        let (committed, end) = asked.await.expect("it does not panic")?;
        let committed = committed.elements();
        let committed = committed.first().expect("one partition was asked for");
        committed.error()?;
        Ok(match committed.offset() {
            Offset::Offset(offset) => {
                let metadata = committed.metadata().to_owned();
                Position { offset, metadata }.within(end)
            }
            _ => Position::default(),
        })
    }

    /// Commits what is not committed yet, in the background. What is not committed because a
    /// commit is running, or because it failed, is committed when that one ends.
    fn commit(&self) {
        let Ok(guard) = Arc::clone(&self.assignment.commits).try_lock_owned() else {
            return;
        };
        let list = self.assignment.to_commit(&self.topic);
        if list.count() == 0 {
            return;
        }
        let (kafka, assignment) = (Arc::clone(&self.kafka), Arc::clone(&self.assignment));
        spawn_blocking(move || {
            if let Err(error) = kafka.commit(&list, CommitMode::Sync) {
                eprintln!("Kafka: cannot commit: {error}");
                assignment.commit_failed(&list);
                thread::sleep(COMMIT_PAUSE);
            }
            drop((kafka, guard));
            assignment.changed.notify_one();
        });
    }

    /// Dropping the last reference calls `Group::pre_rebalance`, leaves the group, and blocks
    /// meanwhile.
    async fn close(self) -> Result<(), JoinError> {
        drop(self.assignment.commits.lock().await); // a running one has a reference
        spawn_blocking(move || drop(self.kafka)).await
    }

    /// A paused consumer still takes part in the group. Partitions that come meanwhile are not
    /// paused: their records are taken, and then they are paused too.
    fn pause_or_resume(&mut self) -> KafkaResult<()> {
        let open = self.assignment.open();
        let open = open.saturating_sub(self.delivery.put_off());
        if open >= MAX_OPEN {
            self.kafka.pause(&self.kafka.assignment()?)?;
            if !self.is_paused {
                eprintln!("reading is paused: {open} mails are in work, and each waits");
            }
            self.is_paused = true;
        } else if self.is_paused && open < MAX_OPEN / 2 {
            self.kafka.resume(&self.kafka.assignment()?)?;
            eprintln!("reading goes on");
            self.is_paused = false;
        }
        Ok(())
    }

    fn report(&self, error: &KafkaError) -> anyhow::Result<()> {
        if let Some((_, reason)) = self.kafka.client().fatal_error() {
            bail!("Kafka: {reason}");
        }
        eprintln!("Kafka: {error}");
        Ok(())
    }
}
